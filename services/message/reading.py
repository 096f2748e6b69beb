"""Reading: who may see a conversation, pages of it, and coming back to it."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from services.common.access import may_see
from services.common.clock import BusinessClock
from services.common.identity import AGENT, Caller
from services.message import domain, faults
from services.message.arrivals import ASSIGNED_S, KNOWN_S, Arrivals, Awaited
from services.message.domain import Conversation, MessageRow, Tail
from services.message.marks import MarkRow
from services.message.ports import Units
from services.message.repository import Messages

T = TypeVar("T")
Read: TypeAlias = Callable[[Messages, Conversation], Awaitable[T]]
"""Reads of a conversation that the caller may see, in the transaction that saw so."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some messages of a conversation, in the order of their numbers."""

    conversation: Conversation
    rows: Sequence[MessageRow]
    more: bool
    """There are more that way."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a reader missed who comes back."""

    page: Page
    recovered: bool
    """The messages continue what he saw, without a hole."""
    marks: Sequence[MarkRow]


class Reader:
    """Reads conversations for callers."""

    def __init__(self, uow: Units, arrivals: Arrivals, clock: BusinessClock) -> None:
        self._uow = uow
        self._arrivals = arrivals
        self._clock = clock

    async def list_messages(
        self, caller: Caller, conversation_id: str, after: int, before: int, size: int
    ) -> Page:
        """Return the page after a number, before one, or the newest when both are zero."""

        async def read(reads: Messages, conversation: Conversation) -> Page:
            if after:
                return await page_after(reads, caller.tenant_id, conversation, after, size)
            end = min(before or conversation.last_sequence + 1, conversation.last_sequence + 1)
            return await page_before(reads, caller.tenant_id, conversation, end, size)

        return await self.opened(caller, conversation_id, read)

    async def resume(
        self, caller: Caller, conversation_id: str, after: int, epoch: str, size: int
    ) -> Resumed:
        """Return what follows the last message seen, or the newest page when that is lost."""

        async def read(reads: Messages, conversation: Conversation) -> Resumed:
            tenant_id = caller.tenant_id
            marks = await reads.marks_of(tenant_id, conversation_id)
            recovered = conversation.continues(after, epoch)
            if recovered:
                page = await page_after(reads, tenant_id, conversation, after, size)
            else:
                end = conversation.last_sequence + 1
                newest = await page_before(reads, tenant_id, conversation, end, size)
                page = Page(conversation, newest.rows, more=False)
            return Resumed(page, recovered, marks)

        return await self.opened(caller, conversation_id, read)

    async def tails(self, tenant_id: str, conversation_ids: Collection[str]) -> Sequence[Tail]:
        """Return how far those of the conversations are that exist."""
        async with self._uow.reading(tenant_id) as reads:
            return await reads.tails(tenant_id, conversation_ids)

    async def opened(self, caller: Caller, conversation_id: str, read: Read[T]) -> T:
        """Return what `read` finds in a conversation that the caller may see.

        Raises NotFound for what isn't there or isn't his; what may be on its way is
        awaited a moment.
        """
        try:
            return await self._opened(caller, conversation_id, read)
        except faults.NotYetKnown:
            if not await self._comes(caller, Awaited(conversation_id), KNOWN_S):
                raise
        except faults.NotYetAssigned:
            if not await self._comes(caller, Awaited(conversation_id, caller.subject), ASSIGNED_S):
                raise
        return await self._opened(caller, conversation_id, read)

    async def _comes(self, caller: Caller, awaited: Awaited, patience_s: float) -> bool:
        return await self._arrivals.wait(caller.tenant_id, [awaited], patience_s)

    async def _opened(self, caller: Caller, conversation_id: str, read: Read[T]) -> T:
        async with self._uow.reading(caller.tenant_id) as reads:
            known = await reads.conversations(caller.tenant_id, [conversation_id])
            conversation = known.get(conversation_id)
            if conversation is None:
                young = domain.is_young(conversation_id, self._clock.now_us())
                raise faults.not_yet_known() if young else faults.not_found()
            if not may_see(caller, conversation.customer_id, conversation.agent_id):
                awaited = conversation.is_queued and AGENT in caller.roles
                raise faults.not_yet_assigned() if awaited else faults.not_found()
            return await read(reads, conversation)


async def page_after(
    reads: Messages, tenant_id: str, conversation: Conversation, after: int, size: int
) -> Page:
    """Return the first messages after a number."""
    last = conversation.last_sequence
    rows = await reads.page_up(tenant_id, conversation.conversation_id, after, last, size)
    return Page(conversation, rows, more=bool(rows) and rows[-1].sequence < last)


async def page_before(
    reads: Messages, tenant_id: str, conversation: Conversation, before: int, size: int
) -> Page:
    """Return the last messages before a number."""
    rows = await reads.page_down(tenant_id, conversation.conversation_id, before, size)
    more = bool(rows) and rows[0].sequence > conversation.first_sequence
    return Page(conversation, rows, more)
