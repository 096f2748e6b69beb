"""Many readers who come at once: their first pages, by a few queries for all of them.

Only where it is simple. Who may not read, what is not known yet and what is gone is
left to a call of its own, which takes its time and has its own answer.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple, TypeVar

from services.common.access import may_see
from services.common.clock import BusinessClock
from services.common.identity import AGENT, Caller
from services.message import domain
from services.message.arrivals import Arrivals, Awaited
from services.message.domain import Conversation, MessageRow
from services.message.marks import MarkRow
from services.message.ports import Units
from services.message.reading import Page, Resumed

RowT = TypeVar("RowT", MessageRow, MarkRow)

PATIENCE_S = 0.25
"""How long conversations that were just made are awaited, together."""
PAGE_SIZE = 50
PAGE_BYTES_MAX = 16 * 1024
READ_BYTES_MAX = 1024 * 1024
"""Of the two reads that an answer may take, each: it fits into one message of gRPC."""


class Alone(Enum):
    """Why somebody is not answered together with others."""

    AWAITED = auto()
    """What he came ahead of may come yet."""
    SPECIAL = auto()


class Coming(NamedTuple):
    """Somebody who comes to a conversation, and what he has seen of it."""

    caller: Caller
    conversation_id: str
    after: int
    epoch: str


class Resuming:
    """Answers many readers together."""

    def __init__(self, uow: Units, arrivals: Arrivals, clock: BusinessClock) -> None:
        self._uow = uow
        self._arrivals = arrivals
        self._clock = clock

    async def many(self, tenant_id: str, coming: Sequence[Coming]) -> list[Resumed | Alone]:
        """Return what each missed, or why he is to be answered alone."""
        answers = await self._read(tenant_id, coming)
        awaited = {answer for answer in answers if isinstance(answer, Awaited)}
        if awaited and await self._arrivals.wait(tenant_id, awaited, PATIENCE_S):
            late = [place for place, one in enumerate(answers) if isinstance(one, Awaited)]
            again = await self._read(tenant_id, [coming[place] for place in late])
            for place, answer in zip(late, again, strict=True):
                answers[place] = answer
        return [Alone.AWAITED if isinstance(one, Awaited) else one for one in answers]

    async def _read(
        self, tenant_id: str, coming: Sequence[Coming]
    ) -> list[Resumed | Alone | Awaited]:
        """Return what each missed, why he is to be answered alone, or what he came ahead of."""
        async with self._uow.reading(tenant_id) as reads:
            known = await reads.conversations(tenant_id, {one.conversation_id for one in coming})
            simple = [one for one in coming if _is_simple(one, known.get(one.conversation_id))]
            after: dict[str, int] = {}
            for one in simple:
                least = min(one.after, after.get(one.conversation_id, one.after))
                after[one.conversation_id] = least
            rows, marks = [], []
            if after:
                rows = await reads.pages_up(tenant_id, after, PAGE_SIZE, PAGE_BYTES_MAX)
                marks = await reads.marks_of_many(tenant_id, after)
        answers = _answers(
            coming, set(simple), known, _by_conversation(rows), _by_conversation(marks)
        )
        return [
            (self._awaited(one, known) or answer) if answer is Alone.SPECIAL else answer
            for one, answer in zip(coming, answers, strict=True)
        ]

    def _awaited(self, one: Coming, known: Mapping[str, Conversation]) -> Awaited | None:
        """Return what this reader came ahead of."""
        conversation = known.get(one.conversation_id)
        if conversation is None:
            young = domain.is_young(one.conversation_id, self._clock.now_us())
            return Awaited(one.conversation_id) if young else None
        if _may_see(one, conversation):
            return None
        given = conversation.is_queued and AGENT in one.caller.roles
        return Awaited(one.conversation_id, one.caller.subject) if given else None


def _is_simple(one: Coming, conversation: Conversation | None) -> bool:
    return (
        conversation is not None
        and _may_see(one, conversation)
        and conversation.continues(one.after, one.epoch)
    )


def _may_see(one: Coming, conversation: Conversation) -> bool:
    return may_see(one.caller, conversation.customer_id, conversation.agent_id)


def _by_conversation(rows: Sequence[RowT]) -> Mapping[str, list[RowT]]:
    found: defaultdict[str, list[RowT]] = defaultdict(list)
    for row in rows:
        found[row.conversation_id].append(row)
    return found


def _answers(
    coming: Sequence[Coming],
    simple: set[Coming],
    known: Mapping[str, Conversation],
    pages: Mapping[str, list[MessageRow]],
    marks: Mapping[str, list[MarkRow]],
) -> list[Resumed | Alone]:
    """Return an answer each, as long as all of them fit into one message."""
    left = READ_BYTES_MAX
    answers: list[Resumed | Alone] = []
    for one in coming:
        if one not in simple or left < 0:
            answers.append(Alone.SPECIAL)
            continue
        conversation = known[one.conversation_id]
        rows = [row for row in pages.get(one.conversation_id, ()) if row.sequence > one.after]
        left -= sum(len(row.body or row.detail or "") * 4 + 256 for row in rows) + 512
        last = rows[-1].sequence if rows else one.after
        page = Page(conversation, rows, more=last < conversation.last_sequence)
        answers.append(Resumed(page, True, marks.get(one.conversation_id, [])))
    return answers
