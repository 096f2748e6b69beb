"""Laws of the pace of senders and of marks."""

from hypothesis import given
from hypothesis import strategies as st

from services.message.domain import Sender
from services.message.marks import MarkRow, Move, moved
from services.message.rates import SenderRates
from tests.unit.test_message_scene import ANN, conversation

SENDERS = [Sender(1, "ann"), Sender(2, "ana")]


class Bucket:
    """The readable twin: tokens that fill up with time."""

    def __init__(self, rate: int, burst: int) -> None:
        self.rate, self.burst = rate, burst
        self.tokens, self.at = float(burst), 0.0

    def take(self, now: float) -> bool:
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1 - 1e-6:
            return False
        self.tokens -= 1
        return True


@given(
    rate=st.integers(1, 50),
    burst=st.integers(1, 60),
    # Steps of 1/64 s are exact, so that the twin's sums round no other way.
    steps=st.lists(st.tuples(st.integers(0, 640), st.sampled_from(SENDERS)), max_size=200),
)
def test_pace_is_that_of_a_token_bucket_each(
    rate: int, burst: int, steps: list[tuple[int, Sender]]
) -> None:
    rates = SenderRates(rate, burst)
    buckets = {sender: Bucket(rate, burst) for sender in SENDERS}
    now = 0.0
    for step, sender in steps:
        now += step / 64
        assert (rates.take("demo", sender, now) is None) == buckets[sender].take(now)


@given(
    moves=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=30),
    last=st.integers(20, 30),
)
def test_marks_are_the_furthest_of_all_moves(moves: list[tuple[int, int]], last: int) -> None:
    talk = conversation("c", last_sequence=last)
    mark: MarkRow | None = None
    for delivered, read in moves:
        before, mark = mark, moved(mark, Move("c", ANN, delivered, read), talk)
        assert mark.delivered_sequence >= mark.read_sequence
        if before is not None:
            assert mark[3:] >= before[3:]
            assert mark.read_sequence >= before.read_sequence
    if mark is not None:
        assert mark.read_sequence == max(read for _, read in moves)
        assert mark.delivered_sequence == max(max(move) for move in moves)
