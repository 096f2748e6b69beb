"""The bot service on real servers: what it says, when it hands over, and never twice."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc
import pytest
from interchange.bot.v1 import bot_pb2
from interchange.bot.v1.bot_pb2 import Intent
from interchange.bot.v1.bot_service_pb2_grpc import BotServiceStub
from interchange.conversation.v1 import conversation_pb2

from services.bot.__main__ import wire
from services.bot.events import HAND_OFF, REPLY, answer_id
from services.common.config import Settings
from services.common.db import Database
from services.common.host import Host
from services.stack.stack import Stack
from tests.integration.test_bot_scene import (
    House,
    Nlu,
    Supervisor,
    Talk,
    clerk,
    nlu_server,
    service_settings,
)
from tests.integration.test_conversation_scene import refused, until


@pytest.fixture(scope="module")
async def nlu_at() -> AsyncIterator[tuple[Nlu, str]]:
    nlu = Nlu()
    server, address = await nlu_server(nlu)
    yield nlu, address
    await server.stop(0)


@pytest.fixture(scope="module")
def settings(servers: Stack, nlu_at: tuple[Nlu, str]) -> Settings:
    return service_settings(servers, nlu_at[1])


@pytest.fixture(scope="module")
async def stub(settings: Settings) -> AsyncIterator[Any]:
    """Two instances of the service; the first one is called."""
    hosts = [Host(settings), Host(settings)]
    for host in hosts:
        await wire(host)
        await host.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{hosts[0].port}") as channel:
        yield BotServiceStub(channel)
    for host in hosts:
        await host.leave()


@pytest.fixture(scope="module")
async def database(settings: Settings) -> AsyncIterator[Database]:
    opened = await Database.open(settings, "bot")
    yield opened
    await opened.close()


@pytest.fixture
def house(settings: Settings, database: Database) -> House:
    return House(settings, database)


@pytest.fixture
def sue(stub: Any, house: House) -> Supervisor:
    return Supervisor(stub, house.tenant)


@pytest.fixture
async def owner(servers: Stack, settings: Settings) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(servers.database_url())
    yield connection
    await connection.close()


async def test_bots_are_kept_by_tenant_and_counted(sue: Supervisor, stub: Any) -> None:
    bot = clerk()
    first = await sue("PutBot", bot=bot)
    assert first.version == 1
    assert (await sue("PutBot", bot=first)).version == 1
    assert (await sue("PutBot", bot=clerk(greeting="hi"))).version == 2
    assert (await sue("GetBot", bot_id="default")).greeting == "hi"
    await sue("PutBot", bot=clerk(bot_id="sales"))
    page = await sue("ListBots", page_size=1)
    assert [one.bot_id for one in page.bots] == ["default"]
    page = await sue("ListBots", page_size=1, page_token=page.next_page_token)
    assert [one.bot_id for one in page.bots] == ["sales"]
    assert not page.next_page_token
    twin = Supervisor(stub, f"t{uuid4().hex[:12]}")
    missing = ("NOT_FOUND", "BOT_NOT_FOUND", [])
    assert await refused(twin("GetBot", bot_id="default")) == missing
    assert await refused(sue("GetBot", bot_id="a\0")) == missing
    assert (await twin("PutBot", bot=clerk())).version == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"bot_id": "No"}, "bot.bot_id"),
        ({"bot_id": ""}, "bot.bot_id"),
        ({"greeting": "a\0"}, "bot.greeting"),
        ({"fallback_reply": "x" * 2001}, "bot.fallback_reply"),
        ({"threshold_millis": 1001}, "bot.threshold_millis"),
        ({"misses_max": 11}, "bot.misses_max"),
        ({"intents": [Intent(name="mute")]}, "bot.intents[0]"),
        ({"intents": [Intent(name="a", hand_off=True)] * 2}, "bot.intents"),
        ({"intents": [Intent(name="a", replies=["x"] * 11)]}, "bot.intents[0].replies"),
        (
            {
                "intents": [
                    Intent(name="a", hand_off=True, needs=conversation_pb2.Needs(priority=10))
                ]
            },
            "bot.intents[0].needs.priority",
        ),
    ],
)
async def test_a_bad_bot_is_refused_with_its_field(
    sue: Supervisor, changes: dict[str, Any], field: str
) -> None:
    assert await refused(sue("PutBot", bot=clerk(**changes))) == (
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        [field],
    )


async def test_it_greets_answers_by_turns_and_says_what_it_knows(
    sue: Supervisor, house: House, nlu_at: tuple[Nlu, str]
) -> None:
    await sue("PutBot", bot=clerk())
    talk = Talk(house)
    started = talk.start()
    assert await talk.answers(1) == [(answer_id(started, REPLY), "hello")]
    said = [await talk.say("hours 900") for _ in range(3)]

    answers = await talk.answers(4)

    assert answers[1:] == [
        (answer_id(said[0], REPLY), "nine to five"),
        (answer_id(said[1], REPLY), "as I said: nine to five"),
        (answer_id(said[2], REPLY), "nine to five"),
    ]
    context = await sue("GetBotContext", conversation_id=talk.conversation_id)
    assert context == bot_pb2.BotContext(
        conversation_id=talk.conversation_id,
        bot_id="default",
        turns=3,
        last_intent="hours",
        last_confidence_millis=900,
        model_version=7,
    )
    assert (house.tenant, "bot", "mesh") in nlu_at[0].callers
    missing = ("NOT_FOUND", "BOT_CONTEXT_NOT_FOUND", [])
    ghost = sue("GetBotContext", conversation_id=house.new_id())
    assert await refused(ghost) == missing


async def test_quick_messages_are_each_answered_in_order(sue: Supervisor, house: House) -> None:
    """Some are not understood at first: those behind them wait."""
    intents = [Intent(name=f"i{number}", replies=[f"r{number}"]) for number in range(10)]
    await sue("PutBot", bot=clerk(intents=intents))
    talks = [Talk(house, f"cleo-{number}") for number in range(5)]
    for number in range(10):
        for talk in talks:
            hitch = f"fails 1 i{number} 900 {talk.customer}" if number % 3 == 0 else ""
            await talk.say(hitch or f"i{number} 900")
    for talk in talks:
        answers = await talk.answers(10)
        assert [text for _, text in answers] == [f"r{number}" for number in range(10)]


async def test_a_tenant_without_a_bot_hands_over_at_once(house: House) -> None:
    silent, talking = Talk(house), Talk(house)
    started = silent.start()
    said = await talking.say("hours 900", bot_id="gone")

    assert await silent.answers(1) == [(answer_id(started, HAND_OFF), "NO_BOT", 0, "")]
    assert await talking.answers(1) == [(answer_id(said, HAND_OFF), "NO_BOT", 0, "")]


async def test_it_hands_over_on_request_and_answers_no_more_until_reopened(
    sue: Supervisor, house: House
) -> None:
    await sue("PutBot", bot=clerk())
    talk = Talk(house)
    asked = await talk.say("person 800")
    await talk.say("hours 900")
    assert await talk.answers(2) == [
        (answer_id(asked, REPLY), "one moment"),
        (answer_id(asked, HAND_OFF), "REQUESTED", 0, ""),
    ]
    talk.hand_off = 1  # agents had it, it ended, and was opened again
    again = await talk.say("hours 900")

    assert (await talk.answers(3))[2] == (answer_id(again, REPLY), "nine to five")
    context = await sue("GetBotContext", conversation_id=talk.conversation_id)
    assert (context.turns, context.handed_off) == (1, False)


async def test_it_hands_over_by_intent_with_its_needs(sue: Supervisor, house: House) -> None:
    await sue("PutBot", bot=clerk())
    talk = Talk(house)
    said = await talk.say("billing 700")

    assert await talk.answers(2) == [
        (answer_id(said, REPLY), "one moment"),
        (answer_id(said, HAND_OFF), "INTENT", 0, "billing"),
    ]


async def test_it_hands_over_after_misses_in_a_row(sue: Supervisor, house: House) -> None:
    """What is unsure, unknown to the bot or no text is a miss; an answer begins anew."""
    await sue("PutBot", bot=clerk(misses_max=3))
    talk = Talk(house)
    await talk.say("hours 499")
    await talk.say("weather 990")
    await talk.say("hours 500")
    await talk.say("hours 100")
    await talk.attach()
    last = await talk.say("weather 990")

    answers = await talk.answers(7)

    said = [answer[1] for answer in answers[:6]]
    assert said == ["pardon?", "pardon?", "nine to five", "pardon?", "pardon?", "one moment"]
    assert answers[6] == (answer_id(last, HAND_OFF), "REPEATED_MISSES", 0, "")


@pytest.mark.parametrize("how", ["fails", "late"])
async def test_a_nlu_that_stumbles_is_asked_again(
    sue: Supervisor, house: House, nlu_at: tuple[Nlu, str], how: str
) -> None:
    await sue("PutBot", bot=clerk())
    talk = Talk(house)
    text = f"{how} 2 hours 900 {house.tenant}"
    await talk.say(text)

    assert [text for _, text in await talk.answers(1)] == ["nine to five"]
    assert nlu_at[0].asked[text] == 3


async def test_a_nlu_that_never_understands_ends_with_a_person(
    sue: Supervisor, house: House
) -> None:
    await sue("PutBot", bot=clerk())
    talk = Talk(house)
    said = await talk.say("never")

    assert await talk.answers(2) == [
        (answer_id(said, REPLY), "pardon?"),
        (answer_id(said, HAND_OFF), "LOW_CONFIDENCE", 0, ""),
    ]


async def test_what_a_person_took_over_is_not_answered(sue: Supervisor, house: House) -> None:
    await sue("PutBot", bot=clerk())
    talk = Talk(house)
    talk.start("hi")
    talk.taken_over()
    talk.hand_off = 0
    other = Talk(house)
    other.start()
    await other.answers(1)  # what came before was taken in
    late = await talk.say("hours 900")
    talk.hand_off = 1
    again = await talk.say("hours 900")

    assert await talk.answers(1) == [(answer_id(again, REPLY), "nine to five")]
    assert answer_id(late, REPLY) != answer_id(again, REPLY)


async def test_an_erased_customer_is_not_answered(
    sue: Supervisor, house: House, owner: Any
) -> None:
    await sue("PutBot", bot=clerk())
    erased, other = Talk(house, "carl"), Talk(house)
    await owner.execute(
        "INSERT INTO mesh.personal_keys (tenant_id, customer_id) VALUES ($1, 'carl')", house.tenant
    )
    erased.start()

    async def queued() -> int:
        query = "SELECT count(*) FROM bot.turns WHERE tenant_id = $1"
        return int(await owner.fetchval(query, house.tenant))

    other.start()
    await other.answers(1)
    await until(queued, lambda count: count == 0)
    query = "SELECT count(*) FROM bot.contexts WHERE tenant_id = $1 AND conversation_id = $2"
    assert await owner.fetchval(query, house.tenant, erased.conversation_id) == 0


async def test_tenants_with_the_same_ids_are_apart(
    stub: Any, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even their answers have the same ids: they follow from what is answered."""
    houses = [House(settings, database), House(settings, database)]
    for number, house in enumerate(houses):
        intents = [Intent(name="hours", replies=[f"r{number}"])]
        await Supervisor(stub, house.tenant)("PutBot", bot=clerk(intents=intents))
    same = houses[0].new_id()
    talks = [Talk(house) for house in houses]
    for talk in talks:
        talk.conversation_id = same
        monkeypatch.setattr(talk.house, "new_id", lambda: same)
        await talk.say("hours 900")

    for number, talk in enumerate(talks):
        assert await talk.answers(1) == [(answer_id(same, REPLY), f"r{number}")]


async def test_two_instances_answer_each_turn_once(sue: Supervisor, house: House) -> None:
    await sue("PutBot", bot=clerk())
    talks = [Talk(house, f"c-{number}") for number in range(40)]
    for _ in range(3):
        for talk in talks:
            await talk.say("hours 900")
    for talk in talks[::8]:
        said = [text for _, text in await talk.answers(3)]
        assert said == ["nine to five", "as I said: nine to five", "nine to five"]
    for talk in talks:
        context = await until(
            lambda talk=talk: sue("GetBotContext", conversation_id=talk.conversation_id),
            lambda found: found.turns >= 3,
        )
        assert context.turns == 3


def test_an_answers_id_follows_from_what_it_answers() -> None:
    answered = "019365f0-1234-7abc-8def-0123456789ab"
    reply, request = answer_id(answered, REPLY), answer_id(answered, HAND_OFF)
    assert (answer_id(answered, REPLY), reply != request) == (reply, True)
    for one in (UUID(reply), UUID(request)):
        assert (one.version, one.variant, str(one)[:13]) == (
            7,
            UUID(answered).variant,
            answered[:13],
        )
