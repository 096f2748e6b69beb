"""Options of the simulation, and the databases that its runs share."""

from collections.abc import AsyncIterator

import pytest

from services.common import ids
from services.stack.stack import Stack
from tests.sim.desk import SeededIds
from tests.sim.house import House
from tests.sim.simulation import Report, simulate

SEEDS = 24
"""Runs without an option: some 40 seconds on two shared cores."""


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
    house = await House.open(servers)
    yield house
    await house.close()


class Simulator:
    """Runs seeds, each with ids of its own."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        self._house, self._monkeypatch = house, monkeypatch

    async def run(self, seed: int) -> Report:
        seeded = SeededIds(f"ids of {seed}")
        # Where a service takes ids from the process, these are they.
        self._monkeypatch.setattr(ids, "_process", seeded)
        return await simulate(self._house, seed, seeded)


@pytest.fixture
def simulator(house: House, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    return Simulator(house, monkeypatch)
