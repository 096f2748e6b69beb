"""A conversation walks through the house: by REST and gRPC, from the first word to the end."""

import asyncio
import uuid
from typing import Any

import pytest
import pytest_asyncio
from interchange.conversation.v1 import conversation_pb2
from interchange.conversation.v1.conversation_service_pb2 import WatchConversationRequest
from interchange.message.v1.message_service_pb2 import WatchMessagesRequest

from tests.e2e.door import Caller, Door
from tests.e2e.refusals import of_json
from tests.e2e.talk_world import EXAMPLES

PATIENCE_S = 20.0
INVALID, NOT_FOUND, EXISTS, PRECONDITION = 3, 5, 6, 9


class Desk:
    """The people of one tenant, each with a token of his own."""

    def __init__(self, door: Door) -> None:
        self.supervisor = door.caller(roles=["supervisor"], subject="sue")
        tenant = self.supervisor.tenant
        self.ann = door.caller(tenant, roles=["customer"], subject="ann")
        self.bob = door.caller(tenant, roles=["customer"], subject="bob")
        self.agents = {
            name: door.caller(tenant, roles=["agent"], subject=name) for name in ("ada", "ben")
        }

    async def open(self) -> None:
        """Hire the agents, teach the bot."""
        for name in self.agents:
            agent = {
                "agentId": name,
                "displayName": name.capitalize(),
                "capacities": [{"channel": "CHANNEL_WEB", "limit": 2}],
            }
            await good(self.supervisor, "POST", "/v1/agents", agent=agent)
        examples = [{"text": one.text, "intent": one.intent} for one in EXAMPLES]
        people = [
            {"text": text, "intent": "person"} for text in ("a person please", "talk to a human")
        ]
        path = "/v1/models/default:train"
        await good(self.supervisor, "POST", path, examples=[*examples, *people])
        intents = [
            {"name": "fees", "replies": ["A dollar a trade."]},
            {"name": "hours", "replies": ["From nine to five."]},
        ]
        bot = {
            "fallbackReply": "Sorry?",
            "handOffReply": "One moment.",
            "handOffIntent": "person",
            "thresholdMillis": 1,
            "intents": intents,
        }
        await good(self.supervisor, "PUT", "/v1/bots/default", **bot)
        async with asyncio.timeout(PATIENCE_S):
            while (await self._model())["state"] != "MODEL_STATE_READY":
                await asyncio.sleep(0.1)

    async def _model(self) -> Any:
        return await good(self.supervisor, "GET", "/v1/models/default")

    async def online(self, name: str) -> None:
        path = f"/v1/agents/{name}:setStatus"
        await good(self.agents[name], "POST", path, status="AGENT_STATUS_ONLINE")

    async def away(self, name: str) -> None:
        path = f"/v1/agents/{name}:setStatus"
        await good(self.agents[name], "POST", path, status="AGENT_STATUS_AWAY")

    async def accept(self, name: str, conversation: str) -> None:
        """Accept what is offered, and wait until the agent may speak."""
        path = f"/v1/agents/{name}"
        async with asyncio.timeout(PATIENCE_S):
            while not (offers := (await good(self.agents[name], "GET", f"{path}/desk"))["offers"]):
                await asyncio.sleep(0.02)
            [offer] = offers
            assert offer["conversationId"] == conversation
            await good(self.agents[name], "POST", f"{path}/offers/{offer['offerId']}:accept")
        await self.said(conversation, lambda all_: "AGENT_JOINED" in str(all_[-1]))

    async def said(self, conversation: str, enough: Any) -> list[Any]:
        """Return the messages of a conversation once they are as wanted."""
        path = f"/v1/conversations/{conversation}/messages"
        async with asyncio.timeout(PATIENCE_S):
            while True:
                answer = await good(self.supervisor, "GET", path)
                if answer["messages"] and enough(answer["messages"]):
                    return list(answer["messages"])
                await asyncio.sleep(0.02)


async def good(caller: Caller, verb: str, path: str, **body: Any) -> Any:
    """Call and expect success."""
    options = {"json": body} if verb != "GET" else {}
    status, answer = await caller.rest(verb, path, **options)
    assert status == 200, answer
    return answer


async def bad(caller: Caller, verb: str, path: str, **body: Any) -> tuple[int, str, str]:
    """Call and expect a refusal; return its code, reason and field."""
    options = {"json": body} if verb != "GET" else {}
    status, answer = await caller.rest(verb, path, **options)
    assert status >= 400, answer
    return of_json(answer)


async def send(caller: Caller, conversation: str, text: str, name: str = "") -> Any:
    path = f"/v1/conversations/{conversation}/messages"
    name = name or uuid.uuid4().hex
    return await good(caller, "POST", path, clientMessageId=name, text=text)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def desk(door: Door) -> Desk:
    opened = Desk(door)
    await opened.open()
    return opened


async def test_from_the_first_word_to_the_end(desk: Desk) -> None:
    started = await good(desk.ann, "POST", "/v1/conversations", text="how much is a trade")
    conversation, path = started["conversationId"], f"/v1/conversations/{started['conversationId']}"
    assert started["status"] == "STATUS_WITH_BOT"
    said = await desk.said(conversation, lambda all_: len(all_) >= 2)
    assert [(one["sender"]["kind"], one["text"]) for one in said] == [
        ("SENDER_KIND_CUSTOMER", "how much is a trade"),
        ("SENDER_KIND_BOT", "A dollar a trade."),
    ]

    await desk.online("ada")
    await send(desk.ann, conversation, "talk to a human")
    await desk.accept("ada", conversation)
    await send(desk.agents["ada"], conversation, "Ada here")
    said = await desk.said(conversation, lambda all_: all_[-1].get("text") == "Ada here")
    assert [int(one["sequence"]) for one in said] == list(range(1, len(said) + 1))

    await desk.away("ada")
    await desk.online("ben")
    await good(desk.agents["ada"], "POST", f"{path}:transfer")
    await desk.accept("ben", conversation)
    refused = await bad(desk.agents["ada"], "GET", path)
    assert refused == (NOT_FOUND, "CONVERSATION_NOT_FOUND", "")
    assert (await good(desk.agents["ben"], "GET", path))["handOffCount"] == 2

    await good(desk.agents["ben"], "POST", f"{path}:end", reason="END_REASON_RESOLVED")
    said = await desk.said(conversation, lambda all_: "ENDED" in str(all_[-1]))
    kinds = [one["system"]["kind"] for one in said if "system" in one]
    joined = ["SYSTEM_KIND_QUEUED", "SYSTEM_KIND_AGENT_JOINED"]
    assert kinds == [*joined, *joined, "SYSTEM_KIND_ENDED"]
    ended = await good(desk.ann, "GET", path)
    assert (ended["status"], ended["endReason"]) == ("STATUS_ENDED", "END_REASON_RESOLVED")
    assert int(ended["durationMs"]) > 0
    body = {"clientMessageId": "late", "text": "one more thing"}
    refused = await bad(desk.ann, "POST", f"{path}/messages", **body)
    assert refused == (PRECONDITION, "CONVERSATION_ENDED", "")
    await desk.away("ben")


async def test_a_retry_is_answered_as_the_first_time(desk: Desk) -> None:
    body = {"requestId": uuid.uuid4().hex, "text": "when do you open"}
    first = await good(desk.ann, "POST", "/v1/conversations", **body)
    assert await good(desk.ann, "POST", "/v1/conversations", **body) == first
    refused = await bad(desk.ann, "POST", "/v1/conversations", **{**body, "text": "else"})
    assert refused == (EXISTS, "IDEMPOTENCY_KEY_REUSED", "request_id")

    conversation = first["conversationId"]
    sent = await send(desk.ann, conversation, "hello", "mine")
    assert await send(desk.ann, conversation, "hello", "mine") == sent
    path = f"/v1/conversations/{conversation}/messages"
    refused = await bad(desk.ann, "POST", path, clientMessageId="mine", text="other")
    assert refused[:2] == (EXISTS, "CLIENT_MESSAGE_ID_REUSED")


async def test_a_customer_has_his_own_only(desk: Desk) -> None:
    started = await good(desk.ann, "POST", "/v1/conversations", text="secret of ann")
    path = f"/v1/conversations/{started['conversationId']}"
    missing = f"/v1/conversations/{uuid.uuid4()}"
    for verb, suffix, body in (
        ("GET", "", {}),
        ("GET", "/messages", {}),
        ("POST", "/messages", {"clientMessageId": "x", "text": "x"}),
        ("POST", ":end", {}),
        ("POST", ":handOff", {}),
    ):
        theirs = await bad(desk.bob, verb, path + suffix, **body)
        assert theirs == await bad(desk.bob, verb, missing + suffix, **body)
        assert theirs == (NOT_FOUND, "CONVERSATION_NOT_FOUND", "")
    listed = await good(desk.bob, "GET", "/v1/conversations")
    assert listed["conversations"] == []


async def test_watchers_see_every_change_and_every_message(desk: Desk) -> None:
    started = await good(desk.ann, "POST", "/v1/conversations", text="how much is a trade")
    conversation = started["conversationId"]
    watch = WatchConversationRequest(conversation_id=conversation)
    states = desk.ann.watch("WatchConversation", watch)
    messages = desk.ann.watch("WatchMessages", WatchMessagesRequest(conversation_id=conversation))
    seen = [(await states.read()).status]
    await desk.said(conversation, lambda all_: len(all_) >= 2)
    await good(desk.ann, "POST", f"/v1/conversations/{conversation}:handOff")
    seen.append((await states.read()).status)
    await good(desk.ann, "POST", f"/v1/conversations/{conversation}:end")
    seen.append((await states.read()).status)
    assert seen == [
        conversation_pb2.STATUS_WITH_BOT,
        conversation_pb2.STATUS_QUEUED,
        conversation_pb2.STATUS_ENDED,
    ]
    numbers = [(await messages.read()).sequence for _ in range(4)]
    assert numbers == [1, 2, 3, 4]
    states.cancel()
    messages.cancel()


@pytest.mark.parametrize(
    ("text", "field"),
    [("", "text"), (" \n\t", "text"), ("x" * 100_000, "text"), ("a\0b", "text"), ("\x07", "text")],
    ids=["empty", "blank", "100,000 characters", "NUL", "bell"],
)
async def test_a_text_that_can_not_be(desk: Desk, text: str, field: str) -> None:
    started = await good(desk.ann, "POST", "/v1/conversations", text="hello")
    path = f"/v1/conversations/{started['conversationId']}/messages"
    refused = await bad(desk.ann, "POST", path, clientMessageId="bad", text=text)
    assert (refused[0], refused[2]) == (INVALID, field)


async def test_emoji_are_a_text(desk: Desk) -> None:
    started = await good(desk.ann, "POST", "/v1/conversations", text="👍")
    sent = await send(desk.ann, started["conversationId"], "🏦💸" * 2_000)
    assert sent["text"] == "🏦💸" * 2_000


async def test_a_visitor_talks_without_an_account(door: Door, desk: Desk) -> None:
    page = door.caller(desk.ann.tenant, roles=["widget"])
    visitor = await good(page, "POST", "/v1/visitors")
    caller = Caller(door, page.tenant, visitor["token"])
    started = await good(caller, "POST", "/v1/conversations", text="how much is a trade")
    assert started["customerId"] == visitor["customerId"]
    said = await desk.said(started["conversationId"], lambda all_: len(all_) >= 2)
    assert said[1]["text"] == "A dollar a trade."
    assert (await bad(page, "POST", "/v1/conversations", text="x"))[1] == "PERMISSION_DENIED"
