"""What a tenant has of conversations, made through the door: agents, a bot, a model, sessions,
a conversation that an agent answers, one that waits and one that the bot answers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from interchange.agent.v1.agent_pb2 import (
    AGENT_STATUS_AWAY,
    AGENT_STATUS_ONLINE,
    Agent,
    Capacity,
)
from interchange.agent.v1.agent_service_pb2 import (
    AcceptOfferRequest,
    CreateAgentRequest,
    GetDeskRequest,
    SetAgentStatusRequest,
)
from interchange.bot.v1.bot_pb2 import Bot
from interchange.bot.v1.bot_service_pb2 import PutBotRequest
from interchange.conversation.v1.conversation_pb2 import CHANNEL_WEB, Needs, Skill
from interchange.conversation.v1.conversation_service_pb2 import (
    ROUTE_BOT,
    ROUTE_QUEUE,
    StartConversationRequest,
)
from interchange.message.v1.message_service_pb2 import ListMessagesRequest, SendMessageRequest
from interchange.nlu.v1.nlu_pb2 import MODEL_STATE_READY, Example
from interchange.nlu.v1.nlu_service_pb2 import GetModelRequest, TrainModelRequest
from interchange.session.v1.session_service_pb2 import OpenSessionRequest

if TYPE_CHECKING:
    from tests.e2e.world import World

PATIENCE_S = 120.0
"""Training takes its time where others have the cores."""
SKILL = "billing"
EXAMPLES = (
    Example(text="what do you charge", intent="fees"),
    Example(text="how much is a trade", intent="fees"),
    Example(text="when do you open", intent="hours"),
    Example(text="are you open on monday", intent="hours"),
)


async def add(world: "World") -> None:
    """Make two of everything that is listed, and let it come to rest."""
    low = world.mark.lower()
    await asyncio.gather(*(train(world, f"{low}-m{number}") for number in (1, 2)))
    for number in (1, 2):
        await create_agent(world, f"{world.mark}.agent{number}")
        await put_bot(world, f"{low}-b{number}", f"{low}-m{number}")
        request = OpenSessionRequest(client=f"client of {world.mark}")
        opened = await world.caller.call("OpenSession", request)
        world.sessions.append((opened.session.session_id, opened.secret))
    chatting = await start(world, "chatting", route=ROUTE_BOT, bot_id=world.bots[0])
    answered = await start(world, "answered", route=ROUTE_QUEUE)
    await answer(world, world.agents[0], answered)
    rare = Needs(required_skills=[Skill(name="nobody-has-it")])
    waiting = await start(world, "waiting", route=ROUTE_QUEUE, needs=rare)
    await said(world, waiting, 2)
    await said(world, chatting, 2)
    for number in (1, 2):
        await send(world, answered, number)


async def train(world: "World", model_id: str) -> None:
    """Train a model and wait until it serves."""
    request = TrainModelRequest(model_id=model_id, request_id=model_id, examples=EXAMPLES)
    await world.caller.call("TrainModel", request)
    world.models.append(model_id)

    async def ready() -> bool:
        model = await world.caller.call("GetModel", GetModelRequest(model_id=model_id))
        assert not model.failure, model
        return bool(model.state == MODEL_STATE_READY)

    await until(ready)


async def create_agent(world: "World", agent_id: str) -> None:
    """Create an agent who can bill."""
    agent = Agent(
        agent_id=agent_id,
        display_name=f"Agent of {world.mark}",
        skills=[Skill(name=SKILL, level=5)],
        capacities=[Capacity(channel=CHANNEL_WEB, limit=3)],
    )
    request = CreateAgentRequest(request_id=agent_id, agent=agent)
    await world.caller.call("CreateAgent", request)
    world.agents.append(agent_id)


async def put_bot(world: "World", bot_id: str, model_id: str) -> None:
    """Create a bot that understands nothing but answers."""
    fallback = f"The bot of {world.mark} did not understand"
    bot = Bot(bot_id=bot_id, model_id=model_id, fallback_reply=fallback, misses_max=10)
    await world.caller.call("PutBot", PutBotRequest(bot=bot))
    world.bots.append(bot_id)


async def start(world: "World", name: str, **how: Any) -> str:
    """Start a conversation of the caller, with a first message."""
    request = StartConversationRequest(
        request_id=f"{world.mark}-{name}",
        customer_name=f"Customer of {world.mark}",
        text=f"A question of {world.mark}",
        **how,
    )
    conversation = await world.caller.call("StartConversation", request)
    world.conversations.append(conversation.conversation_id)
    return str(conversation.conversation_id)


async def answer(world: "World", agent_id: str, conversation_id: str) -> None:
    """Let an agent accept a conversation that waits, and take no other."""

    async def desk() -> Any:
        return await world.caller.call("GetDesk", GetDeskRequest(agent_id=agent_id))

    online = SetAgentStatusRequest(agent_id=agent_id, status=AGENT_STATUS_ONLINE)
    await world.caller.call("SetAgentStatus", online)
    while not (offers := (await desk()).offers):
        await asyncio.sleep(0.02)
    [offer] = offers
    accept = AcceptOfferRequest(agent_id=agent_id, offer_id=offer.offer_id)
    await world.caller.call("AcceptOffer", accept)
    away = SetAgentStatusRequest(agent_id=agent_id, status=AGENT_STATUS_AWAY)
    await world.caller.call("SetAgentStatus", away)
    world.offers.append(offer.offer_id)
    await said(world, conversation_id, 3)


async def send(world: "World", conversation_id: str, number: int) -> None:
    """Send a message as the customer: one who is an agent as well would speak as that."""
    subject = f"clerk-{world.mark}"
    customer = world.caller.door.caller(world.tenant, roles=["customer"], subject=subject)
    request = SendMessageRequest(
        conversation_id=conversation_id,
        client_message_id=f"{world.mark}-c{number}",
        text=f"Message {number} of {world.mark}",
    )
    await customer.call("SendMessage", request)


async def said(world: "World", conversation_id: str, count: int) -> None:
    """Wait until so many messages are in a conversation: notes and replies come later."""
    request = ListMessagesRequest(conversation_id=conversation_id)

    async def enough() -> bool:
        answer = await world.caller.call("ListMessages", request)
        return bool(answer.last_sequence >= count)

    await until(enough)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask again until it is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():
            await asyncio.sleep(0.05)
