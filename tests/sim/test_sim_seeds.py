"""The deterministic tier: whatever goes wrong on the way, the laws hold in the end."""

from tests.sim.books.simulation import simulate
from tests.sim.conftest import Simulator
from tests.sim.house import House

COMMAND = "pytest tests/sim/test_sim_seeds.py -k laws_hold"


async def test_laws_hold_whatever_goes_wrong(house: House, simulator: Simulator, seed: int) -> None:
    report = await simulator.run(simulate, house, seed)

    report.check(COMMAND)


async def test_same_seed_makes_the_same_run(house: House, simulator: Simulator) -> None:
    first = await simulator.run(simulate, house, 7)
    again = await simulator.run(simulate, house, 7)

    assert again == first
    assert first.count > 20


async def test_another_seed_makes_another_run(house: House, simulator: Simulator) -> None:
    first = await simulator.run(simulate, house, 1)
    other = await simulator.run(simulate, house, 2)

    assert first.digest != other.digest
