"""Two instances of the session service and many callers at once, over real Postgres.

Whatever the order, what was answered and what was recorded must agree: `laws` says how.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import grpc
import pytest
from interchange.session.v1 import session_pb2
from interchange.session.v1.session_events_pb2 import SessionOpened

from services.common.config import Settings
from services.session.sweep import Sweep
from services.stack.stack import Stack
from tests.integration.test_session_scene import (
    Caller,
    Gateway,
    Scene,
    WallClock,
    new_tenant,
    service,
    settings_of,
    stored_events,
)

RESUME_S = 30
SUBJECTS = ("ann", "bob", "cy")
STEPS = 150
REFUSALS = {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND}


@pytest.fixture(scope="module")
def settings(servers: Stack) -> Settings:
    return settings_of(servers)


@pytest.fixture(scope="module")
async def pair(settings: Settings) -> AsyncIterator[Any]:
    clock = WallClock()
    async with service(settings, clock) as first, service(settings, clock) as second:
        yield first, second, clock


@pytest.fixture
async def owner(servers: Stack, settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(servers.database_url())
    yield connection
    await connection.close()


@dataclass
class House:
    """A tenant before two instances, and what it was answered."""

    scenes: list[Scene]
    random: random.Random
    known: list[Any] = field(default_factory=list)
    """Results that told a session and its secret."""
    lived: dict[str, float] = field(default_factory=dict)
    """When at the earliest each session last gave a sign of life."""
    goodbyes: set[str] = field(default_factory=set)
    """Sessions that somebody ended, or tried to."""

    def __post_init__(self) -> None:
        self.gateways = [Gateway(scene.caller("gateway", "mesh")) for scene in self.scenes * 2]

    @property
    def clock(self) -> WallClock:
        return self.scenes[0].clock

    def caller(self, subject: str) -> Caller:
        return self.random.choice(self.scenes).caller(subject)

    async def step(self) -> None:
        """Do one thing by chance, beside whatever else is being done."""
        chance = self.random.random()
        gateway = self.random.choice(self.gateways)
        one = self.random.choice(self.known) if self.known else None
        if one is None or chance < 0.2:
            await self._sign(gateway.take(self.random.choice(SUBJECTS)))
        elif chance < 0.25:
            await self._sign(self.caller(self.random.choice(SUBJECTS)).open())
        elif chance < 0.45:
            await self._sign(gateway.take(one.session.subject, one))
        elif chance < 0.55:
            calling = self.caller(one.session.subject).heartbeat(one.session.session_id)
            await self._sign(calling, by=one)
        elif chance < 0.6:
            resuming = self.caller(one.session.subject).resume(one.session.session_id, one.secret)
            await self._sign(resuming, by=one)
        elif chance < 0.7:
            await gateway.detach(broken=[each.session.session_id for each in self.known[-20:]])
        elif chance < 0.75:
            self.goodbyes.add(one.session.session_id)
            await gateway.detach(ended=[one.session.session_id])
        elif chance < 0.8:
            self.goodbyes.add(one.session.session_id)
            await self.caller(one.session.subject).end(one.session.session_id)
        elif chance < 0.88:
            await self.gateways[0].heartbeat()
        elif chance < 0.94:
            await self.random.choice(self.scenes).sweep.sweep()
        else:
            self.clock.advance(self.random.choice((1, 5, 14)))

    async def _sign(self, calling: Awaitable[Any], by: Any = None) -> None:
        """Note a sign of life that was taken; one of a session that is over is refused."""
        began = self.clock.now.timestamp()
        try:
            result = await calling
        except grpc.aio.AioRpcError as error:
            if by is None or error.code() not in REFUSALS:
                raise
            return
        told = result if by is None else by
        if by is None:
            self.known.append(result)
        session_id = told.session.session_id
        self.lived[session_id] = max(self.lived.get(session_id, 0), began)


async def laws(house: House, owner: asyncpg.Connection) -> None:
    """Check that answers, rows and events agree."""
    tenant = house.scenes[0].tenant
    rows = await owner.fetch("SELECT * FROM session.sessions WHERE tenant_id = $1", tenant)
    counts = await owner.fetch("SELECT * FROM session.subjects WHERE tenant_id = $1", tenant)
    open_rows: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        open_rows[row["subject"]] += row["end_time"] is None
    over: dict[str, Any] = {}
    for subject in {row["subject"] for row in rows}:
        count = 0
        for event in await stored_events(owner, tenant, subject):
            count += 1 if isinstance(event, SessionOpened) else -1
            assert event.open_count == count >= 0
            if not isinstance(event, SessionOpened):
                assert event.session_id not in over, "a session ends once"
                over[event.session_id] = event
        assert count == open_rows[subject]
    assert {row["subject"]: row["open_count"] for row in counts} == dict(open_rows)
    assert {str(row["session_id"]) for row in rows if row["end_time"]} == set(over)
    for session_id, event in over.items():
        if event.reason == session_pb2.SESSION_END_CLOSED:
            assert session_id in house.goodbyes
        else:
            assert event.recorded_us / 1e6 >= house.lived[session_id] + RESUME_S


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_answers_and_records_agree(pair: Any, owner: asyncpg.Connection, seed: int) -> None:
    house = _house(pair, seed)
    for _ in range(STEPS // 10):
        await asyncio.gather(*(house.step() for _ in range(10)))
    await laws(house, owner)

    house.clock.advance(200)
    await _swept(house)

    await laws(house, owner)
    left = await owner.fetchval(
        "SELECT count(*) FROM session.sessions WHERE tenant_id = $1 AND end_time IS NULL",
        house.scenes[0].tenant,
    )
    assert left == 0


async def test_a_session_is_resumed_or_ended_and_never_both(
    pair: Any, owner: asyncpg.Connection
) -> None:
    house = _house(pair, 0)
    gateway, other, *_ = house.gateways
    opened = [await gateway.take(f"s{number}") for number in range(60)]
    await gateway.detach(broken=[one.session.session_id for one in opened])
    house.clock.advance(RESUME_S - 1)

    async def resume(number: int) -> bool:
        # The time comes while half of them are on their way.
        if number == 30:
            house.clock.advance(1)
        return bool((await other.take(f"s{number}", opened[number])).resumed)

    sweeps = [_swept(house) for _ in range(4)]
    resumed, *_ = await asyncio.gather(
        asyncio.gather(*(resume(number) for number in range(60))), *sweeps
    )
    await _swept(house)

    for number, taken in enumerate(resumed):
        events = await stored_events(owner, house.scenes[0].tenant, f"s{number}")
        ended = [one.session_id for one in events if not isinstance(one, SessionOpened)]
        assert ended == ([] if taken else [opened[number].session.session_id])
        assert events[-1].open_count == 1


async def test_two_gateways_that_take_one_session_leave_it_with_one(pair: Any) -> None:
    house = _house(pair, 0)
    first, second, third, *_ = house.gateways
    opened = await first.take("ann")

    await asyncio.gather(second.take("ann", opened), third.take("ann", opened))

    (session,) = await house.caller("ann").sessions()
    assert session.resume_count == 2
    losses = {each.instance_id: await each.heartbeat() for each in (first, second, third)}
    assert losses.pop(session.instance_id) == []
    assert list(losses.values()) == [[session.session_id]] * 2


def _house(pair: Any, seed: int) -> House:
    first, second, clock = pair
    tenant = new_tenant()
    scenes = [Scene(stub, sweep, clock, tenant) for stub, sweep in (first, second)]
    return House(scenes, random.Random(seed))


async def _swept(house: House) -> None:
    sweep: Sweep = house.random.choice(house.scenes).sweep
    while await sweep.sweep():
        pass
