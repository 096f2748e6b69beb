"""Turns of the bot whose instance is killed, or only slow: another one answers, once."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import pytest
from interchange.bot.v1.bot_service_pb2_grpc import BotServiceStub

from services.bot import handlers
from services.bot.__main__ import wire
from services.bot.domain import Bot, Detection
from services.bot.events import REPLY, answer_id
from services.bot.handlers import HeardTurn
from services.bot.repository import Bots, PostgresBots
from services.bot.turns import PostgresQueue, Turn
from services.common.clock import SystemClock
from services.common.config import Settings
from services.common.db import Database
from services.common.host import Host
from services.common.ids import uuid7_batch
from services.common.personal import PersonalKeys, Seal
from services.common.work import UnitOfWork
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
from tests.integration.test_conversation_scene import until

LEASE_MS = 60_000


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
async def database(settings: Settings) -> AsyncIterator[Database]:
    opened = await Database.open(settings, "bot")
    yield opened
    await opened.close()


@pytest.fixture
async def owner(servers: Stack, settings: Settings) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(servers.database_url())
    await connection.execute("DELETE FROM bot.turns")
    yield connection
    await connection.close()


def new_id() -> str:
    return uuid7_batch(1, SystemClock().now_us())[0]


class Desk:
    """The queue and the answers of one tenant, step by step."""

    def __init__(self, settings: Settings, database: Database, tenant: str = "") -> None:
        self.tenant = tenant or f"t{uuid4().hex[:12]}"
        self._database = database
        self._keys = PersonalKeys(database, settings)
        self._units: UnitOfWork[Bots] = UnitOfWork(database, settings, PostgresBots, [])

    def turn(self, conversation_id: str, sequence: int) -> Turn:
        return Turn(self.tenant, conversation_id, sequence, new_id(), "cleo", "default", 0, b"")

    async def queue(self, *turns: Turn) -> None:
        async with self._database.pipeline() as connection:
            await self._units.joined(connection).repository.add(turns)

    async def claim(self, lease_ms: int = LEASE_MS, size: int = 10) -> list[Turn]:
        found = await PostgresQueue(self._database, size, lease_ms).claim([], 16)
        return list(found.get(self.tenant, ()))

    async def answer(self, *turns: Turn) -> list[str]:
        """Answer what is still ours."""
        seal: Seal = (await self._keys.of(self.tenant, ["cleo"]))["cleo"]
        bot, detection = Bot.of(clerk()), Detection("hours", 900, 1)
        answers = await handlers.answer_turns(
            self.tenant,
            [HeardTurn(turn, bot, detection, seal) for turn in turns],
            uow=self._units,
            clock=SystemClock(),
        )
        return [one.decision.reply for one in answers]


@pytest.fixture
def desk(settings: Settings, database: Database) -> Desk:
    return Desk(settings, database)


async def test_who_lost_his_lease_answers_nothing(desk: Desk, owner: Any) -> None:
    talk = new_id()
    turns = [desk.turn(talk, number) for number in (1, 2)]
    await desk.queue(*turns)
    [slow] = await desk.claim(lease_ms=0)  # it runs out at once
    [quick] = await desk.claim()
    assert (slow.sequence, quick.sequence, quick.attempts) == (1, 1, 2)
    assert await desk.claim() == []  # the second turn waits for the first

    assert await desk.answer(slow) == []
    assert await desk.answer(quick) == ["nine to five"]
    assert await desk.answer(quick) == []

    [last] = await desk.claim()
    assert last.sequence == 2
    assert await desk.answer(last) == ["as I said: nine to five"]
    event_ids = await owner.fetch(
        "SELECT unnest(event_ids)::text FROM bot.outbox WHERE tenant_id = $1", desk.tenant
    )
    assert {row[0] for row in event_ids} == {answer_id(turn.event_id, REPLY) for turn in turns}


async def test_a_turn_that_comes_again_is_queued_once(desk: Desk, owner: Any) -> None:
    turn = desk.turn(new_id(), 1)
    await desk.queue(turn)
    await desk.queue(turn)

    assert [one.event_id for one in await desk.claim()] == [turn.event_id]


async def test_one_that_floods_waits_behind_himself(
    desk: Desk, settings: Settings, database: Database, owner: Any
) -> None:
    other = Desk(settings, database)
    await desk.queue(*(desk.turn(new_id(), 1) for _ in range(100)))
    await other.queue(other.turn(new_id(), 1))

    found = await PostgresQueue(database, 10, LEASE_MS).claim([], 16)

    assert {tenant: len(turns) for tenant, turns in found.items()} == {
        desk.tenant: 10,
        other.tenant: 1,
    }
    assert await PostgresQueue(database, 10, LEASE_MS).claim([desk.tenant, other.tenant], 16) == {}


async def test_of_more_tenants_than_can_be_served_each_has_his_turn(
    settings: Settings, database: Database, owner: Any
) -> None:
    desks = [Desk(settings, database) for _ in range(5)]
    for desk in desks:
        await desk.queue(*(desk.turn(new_id(), 1) for _ in range(3)))
    queue = PostgresQueue(database, 1, LEASE_MS)

    rounds = [await queue.claim([], 2) for _ in range(9)]

    first = [tenant for found in rounds[:3] for tenant in found]
    assert sorted(first) == sorted(desk.tenant for desk in desks)
    assert [len(found) for found in rounds] == [2, 2, 1] * 3


async def test_what_is_postponed_comes_back_and_its_followers_wait(
    desk: Desk, database: Database, owner: Any
) -> None:
    talk = new_id()
    await desk.queue(desk.turn(talk, 1), desk.turn(talk, 2))
    [turn] = await desk.claim()
    await PostgresQueue(database, 10, LEASE_MS).postpone(desk.tenant, [turn], [60_000])
    assert await desk.claim() == []
    await owner.execute("UPDATE bot.turns SET due_at = now()")

    assert [one.sequence for one in await desk.claim()] == [1]


async def test_many_claim_at_once_and_none_twice(desk: Desk, owner: Any) -> None:
    talks = [new_id() for _ in range(30)]
    await desk.queue(*(desk.turn(talk, number) for talk in talks for number in (1, 2, 3)))

    found = await asyncio.gather(*(desk.claim(size=7) for _ in range(6)))

    taken = [turn.conversation_id for turns in found for turn in turns]
    assert len(taken) == len(set(taken))
    assert all(turn.sequence == 1 for turns in found for turn in turns)


async def test_an_instance_is_killed_between_taking_and_answering(
    settings: Settings, database: Database, nlu_at: tuple[Nlu, str], owner: Any
) -> None:
    """It waits for the nlu when it is killed; the next one finds the turn, and answers once."""
    house = House(settings, database)
    brief = {"bot_lease_ms": 500, "bot_nlu_timeout_ms": 400}
    talk, text = Talk(house), f"late 1 hours 900 {house.tenant}"
    values = settings.model_dump(mode="json") | brief | {"bot_nlu_timeout_ms": 60_000}
    password = settings.password
    environment = {
        f"INTERCHANGE_{name.upper()}": str(value)
        for name, value in (values | {"database_password": password}).items()
        if value is not None
    }
    doomed = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.bot", env={**os.environ, **environment, "PYTHONPATH": "gen"}
    )

    async def asked() -> int:
        return nlu_at[0].asked[text]

    host = Host(settings.model_copy(update=brief))
    try:
        await put_directly(settings, database, house)
        said = await talk.say(text)
        await until(asked, lambda count: count == 1)
    finally:
        doomed.send_signal(signal.SIGKILL)
        await doomed.wait()
    await wire(host)
    await host.start()
    try:
        assert await talk.answers(1) == [(answer_id(said, REPLY), "nine to five")]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{host.port}") as channel:
            sue = Supervisor(BotServiceStub(channel), house.tenant)
            context = await sue("GetBotContext", conversation_id=talk.conversation_id)
        assert context.turns == 1
    finally:
        await host.leave()


async def put_directly(settings: Settings, database: Database, house: House) -> None:
    """Store a bot without any instance."""
    units: UnitOfWork[Bots] = UnitOfWork(database, settings, PostgresBots, [])
    await handlers.put_bot(house.tenant, clerk(), uow=units)
