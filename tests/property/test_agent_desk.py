"""Laws of a desk, whatever happens to it in whatever order."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from services.agent.desk import RESPONSE_MS_MAX, Desk, average_response_ms
from services.agent.domain import (
    Offer,
    OfferState,
    ReleaseReason,
    RequestState,
    StateReason,
    Status,
)
from services.common.errors import FailedPrecondition
from tests.unit.agent_fakes import MAIL, NOW, WEB, agent, request

SECOND = timedelta(seconds=1)
STATUSES = st.sampled_from([Status.ONLINE, Status.AWAY, Status.OFFLINE])


class DeskMachine(RuleBasedStateMachine):
    """One agent, many conversations."""

    offers = Bundle("offers")

    @initialize(web=st.integers(0, 3), mail=st.integers(0, 2))
    def begin(self, web: int, mail: int) -> None:
        self.desk = Desk(agent(slots={WEB: web, MAIL: mail}))
        self.requests = {}
        self.now = NOW
        self.count = 0
        self.states: dict[str, OfferState] = {}

    @rule(target=offers, channel=st.sampled_from([WEB, MAIL]))
    def offer(self, channel: int) -> str:
        self.count += 1
        name = f"c{self.count}"
        self.requests[name] = asked = request(name, channel=channel)
        offer = Offer(
            f"o-{name}", "ana", name, 1, "carl", channel, 1, NOW, self.now, self.now + 30 * SECOND
        )
        if not asked.fits(self.desk.agent, self.now, 30 * SECOND):
            return ""
        self.desk.offer(asked, offer, 1)
        self.states[name] = OfferState.OPEN
        return name

    @rule(name=offers, accept=st.booleans())
    def answer(self, name: str, accept: bool) -> None:
        if (offer := self.desk.offers.get(f"o-{name}")) is None:
            return
        act = self.desk.accept if accept else self.desk.decline
        if offer.expire_time > self.now:
            act(offer, self.requests[name], self.now)
            return
        with pytest.raises(FailedPrecondition, match="run out"):
            act(offer, self.requests[name], self.now)

    @rule(name=offers)
    def expire(self, name: str) -> None:
        offer = self.desk.offers.get(f"o-{name}")
        if offer is not None and offer.expire_time <= self.now:
            self.desk.expire(offer, self.requests[name], self.now)

    @rule(name=offers, ended=st.booleans())
    def move_on(self, name: str, ended: bool) -> None:
        """The conversation ends, or is handed over again; then it is settled."""
        if not name:
            return
        self.requests[name].hand_off += 1
        self.requests[name].state = RequestState.CLOSED if ended else RequestState.WAITING
        if (offer := self.desk.offers.get(f"o-{name}")) is not None:
            self.desk.withdraw(offer, self.requests[name], self.now)
        if (one := self.desk.assignments.get((name, 1))) is not None:
            self.desk.release(one, ReleaseReason.HANDED_OFF, self.now)

    @rule(status=STATUSES)
    def say(self, status: Status) -> None:
        self.desk.set_status(status, StateReason.REQUESTED, self.requests, self.now)

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds: int) -> None:
        self.now += seconds * SECOND

    @invariant()
    def load_is_what_he_has(self) -> None:
        carried = {channel: n for channel, n in self.desk.agent.loads.items() if n}
        assert carried == self.desk.counted()
        assert (self.desk.agent.idle_since is None) == bool(carried)
        for channel, load in carried.items():
            assert load <= self.desk.agent.profile.slots[channel]

    @invariant()
    def each_change_counts_version_and_number_by_one(self) -> None:
        count = len(self.desk.changes)
        numbers = [change.agent.last_sequence for change in self.desk.changes]
        assert numbers == list(range(2, 2 + count))
        assert self.desk.agent.version == 1 + count

    @invariant()
    def requests_agree_with_the_desk(self) -> None:
        offered = {offer.conversation_id for offer in self.desk.offers.values()}
        assert offered == {
            name for name, one in self.requests.items() if one.state is RequestState.OFFERED
        }
        answered = {name for name, _ in self.desk.assignments}
        assert answered == {
            name for name, one in self.requests.items() if one.state is RequestState.MATCHED
        }

    @invariant()
    def who_is_gone_has_nothing(self) -> None:
        if self.desk.agent.status is Status.OFFLINE:
            assert not self.desk.offers
            assert not self.desk.assignments


TestDesk = DeskMachine.TestCase


@given(st.lists(st.integers(-1_000, 2 * RESPONSE_MS_MAX), min_size=1))
def test_average_stays_among_what_was_measured(taken: list[int]) -> None:
    average = 0
    for one in taken:
        average = average_response_ms(average, one)

    bounded = [min(max(one, 1), RESPONSE_MS_MAX) for one in taken]
    assert min(bounded) <= average <= max(bounded)
