"""Options of the simulation, and the databases that its runs share."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from services.agent import matcher
from services.common import ids, tending
from services.gateway import feeds
from services.stack.stack import Stack
from tests.sim.house import House
from tests.sim.ids import SeededIds
from tests.sim.report import Report

SEEDS = 20
"""Runs of each side without an option: some 30 seconds on two shared cores."""
BOOKS = ("instrument", "account", "trade", "position", "ledger")
TALK = ("session", "conversation", "message", "bot", "agent")

TIMELESS = (
    (tending, "LOOK_S", 0.0),
    (tending, "FETCH_S", math.inf),
    (matcher, "FRESH_S", 0.0),
    (matcher, "HELD_PAUSE_S", 0.0),
    (feeds, "GRACE_S", 0.0),
)
"""Where a service looks at the wall clock. No time passes in a simulation: nothing is fresh,
nothing takes long, and what overtakes another does so by decision."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, help="replay one run of the simulation")
    parser.addoption("--seeds", type=int, default=SEEDS, help="number of runs of the simulation")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        one = metafunc.config.getoption("seed", None)
        count = metafunc.config.getoption("seeds", SEEDS)
        metafunc.parametrize("seed", range(count) if one is None else [one])


@pytest.fixture(scope="module")
async def house(servers: Stack) -> AsyncIterator[House]:
    """The databases of the books."""
    house = await House.open(servers, "simulation", BOOKS)
    yield house
    await house.close()


@pytest.fixture(scope="module")
async def talk_house(servers: Stack) -> AsyncIterator[House]:
    """The databases of the conversation side."""
    house = await House.open(servers, "simulation_talk", TALK)
    yield house
    await house.close()


class Simulator:
    """Runs seeds, each with ids of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    async def run(
        self,
        simulate: Callable[[House, int, SeededIds], Awaitable[Report]],
        house: House,
        seed: int,
    ) -> Report:
        seeded = SeededIds(f"ids of {seed}")
        # Where a service takes ids from the process, these are they.
        self._monkeypatch.setattr(ids, "_process", seeded)
        for module, name, value in TIMELESS:
            self._monkeypatch.setattr(module, name, value)
        return await simulate(house, seed, seeded)


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Simulator:
    return Simulator(monkeypatch)
