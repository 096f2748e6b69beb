"""A help desk for a tenant: its agents, its bot and the model that understands for it."""

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import grpc
from interchange.agent.v1.agent_pb2 import Agent, Capacity
from interchange.agent.v1.agent_service_pb2 import CreateAgentRequest, UpdateAgentRequest
from interchange.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from interchange.bot.v1.bot_service_pb2 import PutBotRequest
from interchange.bot.v1.bot_service_pb2_grpc import BotServiceStub
from interchange.conversation.v1.conversation_pb2 import CHANNEL_MOBILE, CHANNEL_WEB, Skill
from interchange.conversation.v1.conversation_service_pb2_grpc import ConversationServiceStub
from interchange.message.v1.message_service_pb2_grpc import MessageServiceStub
from interchange.nlu.v1.nlu_pb2 import MODEL_STATE_FAILED, MODEL_STATE_READY
from interchange.nlu.v1.nlu_service_pb2 import GetModelRequest, TrainModelRequest
from interchange.nlu.v1.nlu_service_pb2_grpc import NluServiceStub

from services.stack import help_desk
from services.stack.booking import GaveUp
from services.stack.stack import Stack

ROLE = "supervisor"
TOKEN_MINUTES = 60
CALL_TIMEOUT_S = 10.0
CALLS_AT_ONCE = 16
READY_PAUSE_S = 0.1
SKILLS = ("orders", "funding", "login", "complaints")


class Supervisor:
    """A supervisor of a tenant at the edge. Use as `async with`."""

    def __init__(self, stack: Stack, tenant: str, patience_s: float) -> None:
        self.tenant = tenant
        self._stack = stack
        self._patience_s = patience_s

    async def __aenter__(self) -> Self:
        """Open the connection."""
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{self._stack.settings.edge_port}")
        self.agents = AgentServiceStub(self._channel)
        self.bots = BotServiceStub(self._channel)
        self.conversations = ConversationServiceStub(self._channel)
        self.messages = MessageServiceStub(self._channel)
        self.nlu = NluServiceStub(self._channel)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        await self._channel.close(None)

    async def call(self, rpc: Any, request: Any) -> Any:
        """Call an rpc as the supervisor."""
        token = self._stack.token(self.tenant, [ROLE], "supervisor", TOKEN_MINUTES)
        metadata = (("authorization", f"Bearer {token}"),)
        return await rpc(request, timeout=CALL_TIMEOUT_S, metadata=metadata)

    async def open_desk(self, agents: Sequence[Agent]) -> None:
        """Create or replace the agents and the bot, and wait until its model serves."""
        model = await self._model()
        gate = asyncio.Semaphore(CALLS_AT_ONCE)

        async def one(agent: Agent) -> None:
            async with gate:
                await self._put_agent(agent)

        await asyncio.gather(*(one(agent) for agent in agents))
        bot = PutBotRequest(bot=help_desk.bot())
        await self.call(self.bots.PutBot, bot)
        await self._until_ready(model.version)

    async def _put_agent(self, agent: Agent) -> None:
        try:
            await self.call(self.agents.CreateAgent, CreateAgentRequest(agent=agent))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise
            await self.call(self.agents.UpdateAgent, UpdateAgentRequest(agent=agent))

    async def _model(self) -> Any:
        """Train the model of the bot, unless there is one already."""
        try:
            request = GetModelRequest(model_id=help_desk.BOT_ID)
            return await self.call(self.nlu.GetModel, request)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
        examples = help_desk.examples()
        train = TrainModelRequest(model_id=help_desk.BOT_ID, examples=examples)
        return await self.call(self.nlu.TrainModel, train)

    async def _until_ready(self, version: int) -> None:
        ends = time.monotonic() + self._patience_s
        request = GetModelRequest(model_id=help_desk.BOT_ID, version=version)
        while True:
            model = await self.call(self.nlu.GetModel, request)
            if model.state == MODEL_STATE_READY:
                return
            if model.state == MODEL_STATE_FAILED:
                raise GaveUp(f"the model could not be trained: {model.failure}")
            if time.monotonic() > ends:
                raise GaveUp(f"the model was not trained within {self._patience_s:.0f} s")
            await asyncio.sleep(READY_PAUSE_S)


def staff(names: Sequence[str], limit: int) -> list[Agent]:
    """Return agents who take `limit` conversations each, with one or two skills by turns."""
    return [
        Agent(
            agent_id=name,
            display_name=name.partition("-")[0].capitalize(),
            skills=[
                Skill(name=SKILLS[(number + more) % len(SKILLS)], level=10 - 3 * more)
                for more in range(1 + number % 2)
            ],
            capacities=[
                Capacity(channel=CHANNEL_WEB, limit=limit),
                Capacity(channel=CHANNEL_MOBILE, limit=limit),
            ],
        )
        for number, name in enumerate(names)
    ]
