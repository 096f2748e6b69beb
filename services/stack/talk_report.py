"""What a run of the help desks came to: tables, and checks of what everybody was told."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from interchange.conversation.v1.conversation_pb2 import STATUS_ENDED
from rich.table import Table

from services.stack import checks
from services.stack.checks import Check
from services.stack.report import counts_table, grid
from services.stack.talk_demo import Hours

PERCENTILES = (50, 95, 99)


def talk_tables(all_hours: Sequence[Hours], took_s: float) -> Iterator[Table]:
    """Yield the tables of a run."""
    total = sum(len(hours.conversations) for hours in all_hours)
    moved = sum(hours.handed_over for hours in all_hours)
    said = sum(len(messages) for hours in all_hours for messages in hours.messages.values())
    rows = [
        ("conversations", f"{total:,} in {took_s:.1f} s"),
        ("contained by the bot", _share(total - moved, total)),
        ("handed over to agents", _share(moved, total)),
        ("messages, notes of the platform included", f"{said:,}"),
        ("connections broken on purpose", f"{sum(hours.notes.drops for hours in all_hours):,}"),
    ]
    yield counts_table(f"\nHelp desks of {' and '.join(each.tenant for each in all_hours)}", rows)
    matches = [each for hours in all_hours for each in hours.matches_ms()]
    crossings = [each for hours in all_hours for each in hours.notes.crossings_ms]
    times = [
        ("from hand-over to the agent's hand", *_percentiles(matches)),
        ("from send to the other side", *_percentiles(crossings)),
    ]
    yield grid("\nTimes", ("", *(f"p{each}" for each in PERCENTILES)), times)


def _share(count: int, total: int) -> str:
    return f"{count:,}, {100 * count / total:.0f} %" if total else "0"


def _percentiles(values: Iterable[float]) -> tuple[str, ...]:
    found = list(values)
    if not found:
        return ("",) * len(PERCENTILES)
    return tuple(f"{each:.1f} ms" for each in np.percentile(found, PERCENTILES))


def talk_checks(all_hours: Sequence[Hours]) -> list[Check]:
    """Compare what everybody was told with what is stored."""
    notes = [hours.notes for hours in all_hours]
    started = sum(len(each.started) for each in notes)
    ended = sum(one.status == STATUS_ENDED for hours in all_hours for one in hours.conversations)
    acknowledged = sum(len(each.acknowledged) for each in notes)
    stored = sum(_stored(hours) for hours in all_hours)
    told = [pair for hours in all_hours for pair in _told(hours)]
    wrong = [text for text, right in told if not right]
    return [
        checks.equal("conversations started, ended", started, ended),
        checks.equal("messages acknowledged, stored once", acknowledged, stored),
        Check(
            "told to who should see it: all, once, in order",
            f"{len(told):,}",
            f"{len(told) - len(wrong):,}",
            not wrong,
            wrong[: checks.DIFFERENCES_MAX],
        ),
        checks.equal("agents above their capacity", 0, sum(len(each.overfull) for each in notes)),
        checks.equal("left waiting", 0, sum(hours.waiting for hours in all_hours)),
        checks.equal("left with an agent", 0, sum(hours.loads for hours in all_hours)),
    ]


def _stored(hours: Hours) -> int:
    """Return how many messages are stored of those that were acknowledged."""
    acknowledged = set(hours.notes.acknowledged)
    return sum(
        one.client_message_id in acknowledged
        for messages in hours.messages.values()
        for one in messages
    )


def _told(hours: Hours) -> Iterator[tuple[str, bool]]:
    """Yield each reader of each conversation, and whether he was told what he should."""
    owners = {one.conversation_id: one.customer_id for one in hours.conversations}
    for (subject, conversation), heard in hours.notes.heard.items():
        stored = [one.sequence for one in hours.messages.get(conversation, ())]
        whole = owners.get(conversation) == subject
        # Agents leave earlier: what they were told has no hole, and begins at the beginning.
        right = heard == (stored if whole else stored[: len(heard)])
        yield f"{subject} in {conversation}: {heard} of {len(stored)}", right
