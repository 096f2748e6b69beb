"""Whatever pushes do, each number comes out once and in order."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.gateway.allowance import Allowance
from services.gateway.codec import BadFrame, decode, encode
from services.gateway.ordering import EARLY_MAX, Sequencer


class Conversation(RuleBasedStateMachine):
    """Messages are committed; pushes of them are lost, come twice, late or never."""

    def __init__(self) -> None:
        super().__init__()
        self.order: Sequencer[str] = Sequencer()
        self.committed = 0
        self.given: list[int] = []
        self.began: int | None = None

    def _take(self, found: list[tuple[int, str]]) -> None:
        for sequence, item in found:
            assert item == f"m{sequence}"
            self.given.append(sequence)

    @rule(count=st.integers(1, 5))
    def commit(self, count: int) -> None:
        self.committed += count

    @rule(data=st.data())
    def push(self, data: st.DataObject) -> None:
        if self.committed:
            sequence = data.draw(st.integers(1, self.committed))
            self._take(self.order.take(sequence, f"m{sequence}"))

    @rule()
    def anchor(self) -> None:
        if self.began is None:
            self.began = self.committed
        self._take(self.order.anchor(self.committed))

    @rule()
    def watermark(self) -> None:
        self.order.heard_of(self.committed)

    @rule(count=st.integers(1, 5))
    def fetch(self, count: int) -> None:
        if self.order.last is not None:
            after = self.order.last
            for sequence in range(after + 1, min(self.committed, after + count) + 1):
                self._take(self.order.take(sequence, f"m{sequence}"))

    @invariant()
    def nothing_is_missing_or_twice(self) -> None:
        if self.began is None:
            assert self.given == []
        else:
            assert self.given == list(range(self.began + 1, self.began + 1 + len(self.given)))
            assert self.order.last == self.began + len(self.given)

    @invariant()
    def what_was_heard_of_and_not_given_is_known_to_be_missing(self) -> None:
        if self.order.last is not None:
            assert self.order.behind == (self.order.highest > self.order.last)
            assert self.order.last <= self.committed

    def teardown(self) -> None:
        self.order.anchor(self.committed)
        self.order.heard_of(self.committed)
        while self.order.behind:
            self.fetch(5)
        self.nothing_is_missing_or_twice()


TestConversation = Conversation.TestCase


def test_what_comes_too_early_is_bounded():
    order: Sequencer[int] = Sequencer()
    order.anchor(0)
    for sequence in range(2, EARLY_MAX + 100):
        assert order.take(sequence, sequence) == []
    assert len(order._early) == EARLY_MAX
    assert [number for number, _ in order.take(1, 1)] == list(range(1, EARLY_MAX + 2))
    assert order.behind


@given(
    rate=st.integers(1, 100),
    burst=st.integers(1, 300),
    gaps=st.lists(st.floats(0, 2, allow_nan=False), min_size=1, max_size=300),
)
def test_an_allowance_is_never_more_than_burst_and_pace(rate, burst, gaps):
    allowance, now, taken = Allowance(rate, burst), 1_000.0, []
    for gap in gaps:
        now += gap
        if allowance.take(now):
            taken.append(now)
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            count = last - first + 1
            assert count <= burst + (taken[last] - start) * rate + 1e-6


def reason_of(payload: bytes) -> str:
    """Return why bytes are no frame, or nothing when they are one, which then survives the way."""
    try:
        frame = decode(payload)
    except BadFrame as bad:
        return bad.reason
    assert decode(encode(frame)) == frame
    return ""


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(payload):
    assert reason_of(payload) in {"", "NOT_JSON", "NOT_AN_OBJECT", "MISSING_TYPE"}


# A few letters do, and need no table of all of Unicode.
TEXT = st.text('ab-1\x00"\U0001f600', max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["type", "ref", "conversation_id", "text", "needs", "after_sequence", "typing", "subjects"]
)
TYPES = st.sampled_from(["hello", "send", "subscribe", "mark", "start", "transfer", "ping", "x"])


@given(kind=TYPES, fields=st.dictionaries(NAMES, JSON, max_size=5))
def test_no_frame_that_is_nearly_right_does_more_than_be_refused(kind, fields):

    reason = reason_of(msgspec.json.encode(fields | {"type": kind}))
    assert reason in {"", "INVALID_FIELD", "UNKNOWN_FIELD", "MISSING_FIELD", "UNKNOWN_TYPE"}
