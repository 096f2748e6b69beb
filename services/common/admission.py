"""Which events of a batch may be applied: the rules of the inbox, without I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from services.common.events import Event

KeyId: TypeAlias = tuple[str, str, str]
"""Tenant, topic and key."""


def key_id(event: Event) -> KeyId:
    """Return what an event is ordered by."""
    return event.tenant_id, event.topic, event.key


@dataclass(slots=True)
class Admission:
    """What becomes of the events of a batch."""

    ready: list[Event] = field(default_factory=list)
    """To be applied, in this order."""
    parked: list[Event] = field(default_factory=list)
    """Ahead of a missing event or behind one that can't be applied."""
    gaps: dict[KeyId, str] = field(default_factory=dict)
    """Keys that were not parked before and miss an event, with the reason."""
    sequences: dict[KeyId, int] = field(default_factory=dict)
    """Last applied number of each key with ready events."""
    repeats: int = 0
    """Events that had been applied already."""


def admit(
    events: Iterable[Event], current: Mapping[KeyId, int], parked: Mapping[KeyId, str]
) -> Admission:
    """Sort events into ready, parked and repeated.

    `current` is the last applied number of each key, `parked` the state of the
    keys that wait. A key that waits for a missing event takes just that event
    and what follows it; one that waits for an operator takes none.
    """
    admission = Admission()
    sequences = admission.sequences
    for event in events:
        key = key_id(event)
        last = sequences.get(key)
        if last is None:
            last = current.get(key, 0)
        if event.sequence <= last:
            admission.repeats += 1
        elif event.sequence == last + 1 and parked.get(key, "GAP") == "GAP":
            sequences[key] = event.sequence
            admission.ready.append(event)
        else:
            admission.parked.append(event)
            if key not in parked and key not in admission.gaps:
                admission.gaps[key] = f"sequence was {event.sequence}, expected {last + 1}"
    return admission


def contiguous(events: Iterable[Event], last: int) -> list[Event]:
    """Return the events that follow `last` without a gap; repeats are dropped.

    `events` are sorted by sequence.
    """
    found = []
    for event in events:
        if event.sequence == last + 1:
            found.append(event)
            last += 1
        elif event.sequence > last:
            break
    return found
