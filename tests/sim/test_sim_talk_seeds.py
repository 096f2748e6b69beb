"""The deterministic tier of talk: whatever goes wrong on the way, the laws hold in the end."""

from tests.sim.conftest import Simulator
from tests.sim.house import House
from tests.sim.talk.simulation import simulate

COMMAND = "pytest tests/sim/test_sim_talk_seeds.py -k laws_hold"


async def test_laws_hold_whatever_goes_wrong(
    talk_house: House, simulator: Simulator, seed: int
) -> None:
    report = await simulator.run(simulate, talk_house, seed)

    report.check(COMMAND)


async def test_same_seed_makes_the_same_run(talk_house: House, simulator: Simulator) -> None:
    first = await simulator.run(simulate, talk_house, 7)
    again = await simulator.run(simulate, talk_house, 7)

    assert again == first
    assert first.count > 20
