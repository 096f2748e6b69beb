"""Which events of a batch may be applied."""

from hypothesis import given
from hypothesis import strategies as st

from services.common.admission import admit, contiguous
from services.common.events import Event

KEY = ("demo", "trade-events", "ACC1")


def event(sequence: int, key: str = "ACC1") -> Event:
    return Event("demo", "trade-events", key, sequence, f"id-{key}-{sequence}", "t", 1, b"")


def test_events_in_order_are_ready() -> None:
    admission = admit([event(3), event(4)], {KEY: 2}, {})

    assert [e.sequence for e in admission.ready] == [3, 4]
    assert admission.sequences == {KEY: 4}
    assert not admission.parked


def test_repeats_are_dropped_and_counted() -> None:
    admission = admit([event(1), event(2), event(2), event(3)], {KEY: 1}, {})

    assert [e.sequence for e in admission.ready] == [2, 3]
    assert admission.repeats == 2


def test_event_after_a_gap_waits_and_names_what_is_missing() -> None:
    admission = admit([event(1), event(3)], {}, {})

    assert [e.sequence for e in admission.ready] == [1]
    assert [e.sequence for e in admission.parked] == [3]
    assert admission.gaps == {KEY: "sequence was 3, expected 2"}


def test_key_with_a_gap_takes_the_missing_event() -> None:
    admission = admit([event(2), event(4)], {KEY: 1}, {KEY: "GAP"})

    assert [e.sequence for e in admission.ready] == [2]
    assert [e.sequence for e in admission.parked] == [4]
    assert not admission.gaps


def test_poisoned_key_takes_nothing_and_others_go_on() -> None:
    admission = admit([event(2), event(1, "ACC2")], {KEY: 1}, {KEY: "POISONED"})

    assert [e.key for e in admission.ready] == ["ACC2"]
    assert [e.key for e in admission.parked] == ["ACC1"]


def test_contiguous_stops_at_the_first_gap() -> None:
    found = contiguous([event(1), event(2), event(3), event(5)], 1)

    assert [e.sequence for e in found] == [2, 3]


@given(st.lists(st.tuples(st.sampled_from(["A", "B"]), st.integers(1, 8)), max_size=40))
def test_whatever_arrives_is_applied_once_and_in_order(arrivals: list[tuple[str, int]]) -> None:
    """Deliver any events in any order and batches: what is applied counts up from 1."""
    current: dict[tuple[str, str, str], int] = {}
    parked: dict[tuple[str, str, str], str] = {}
    waiting: dict[tuple[str, str, str], dict[int, Event]] = {}
    applied: dict[str, list[int]] = {"A": [], "B": []}
    for start in range(0, len(arrivals), 3):
        batch = [event(sequence, key) for key, sequence in arrivals[start : start + 3]]
        admission = admit(batch, current, parked)
        for ready in admission.ready:
            applied[ready.key].append(ready.sequence)
        current |= admission.sequences
        for late in admission.parked:
            key = (late.tenant_id, late.topic, late.key)
            waiting.setdefault(key, {})[late.sequence] = late
            parked[key] = "GAP"
        for key, events in waiting.items():
            ordered = [events[sequence] for sequence in sorted(events)]
            for freed in contiguous(ordered, current.get(key, 0)):
                applied[freed.key].append(freed.sequence)
                current[key] = freed.sequence

    for key, sequences in applied.items():
        assert sequences == list(range(1, len(sequences) + 1))
        seen = {sequence for name, sequence in arrivals if name == key}
        unbroken = next(n for n in range(1, 10) if n not in seen) - 1
        assert len(sequences) == unbroken
