"""Sees that an agent exists who can all that his colleagues can."""

import grpc
from interchange.agent.v1.agent_pb2 import Agent, Capacity
from interchange.agent.v1.agent_service_pb2 import (
    CreateAgentRequest,
    GetAgentRequest,
    ListAgentsRequest,
)
from interchange.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from interchange.conversation.v1.conversation_pb2 import Channel, Skill

from services.stack.booking import describe
from services.stack.errors import StackError
from services.stack.stack import Stack

POOL = "default"
LIMIT = 5
"""Conversations over a channel that an agent in a terminal takes at once."""
LEVEL = 10
SKILLS_MAX = 32
TIMEOUT_S = 10.0


async def ensure_agent(stack: Stack, tenant: str, agent_id: str) -> None:
    """Create an agent of the default pool with all of its skills, unless he exists."""
    token = stack.token(tenant, ["supervisor"], "supervisor")
    metadata = (("authorization", f"Bearer {token}"),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stack.settings.edge_port}") as channel:
        agents = AgentServiceStub(channel)
        try:
            await agents.GetAgent(
                GetAgentRequest(agent_id=agent_id), metadata=metadata, timeout=TIMEOUT_S
            )
            return
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise _failed(stack, error) from error
        try:
            colleagues = await agents.ListAgents(
                ListAgentsRequest(pool_id=POOL, page_size=500), metadata=metadata, timeout=TIMEOUT_S
            )
            agent = _agent(agent_id, {s.name for each in colleagues.agents for s in each.skills})
            await agents.CreateAgent(
                CreateAgentRequest(agent=agent), metadata=metadata, timeout=TIMEOUT_S
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise _failed(stack, error) from error


def _agent(agent_id: str, skills: set[str]) -> Agent:
    return Agent(
        agent_id=agent_id,
        display_name=agent_id.capitalize(),
        pool_id=POOL,
        skills=[Skill(name=name, level=LEVEL) for name in sorted(skills)[:SKILLS_MAX]],
        capacities=[
            Capacity(channel=channel, limit=LIMIT) for channel in Channel.values() if channel
        ],
    )


def _failed(stack: Stack, error: grpc.aio.AioRpcError) -> StackError:
    return StackError(
        f"the agent service refused: {describe(error)}",
        f"Is the stack at {stack.edge_url} up? `interchange status` tells.",
    )
