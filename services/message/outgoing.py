"""What is sent: admitted at its sender's pace, gathered, and sent again once it may be.

A message may come ahead of the copy of its conversation, or an agent's ahead of his
assignment. It waits for these outside of any batch: nobody else waits along.
"""

import time
from collections.abc import Sequence
from typing import TypeAlias

from interchange.message.v1.message_pb2 import SENDER_KIND_AGENT, Message

from services.common.batcher import Batcher, isolated
from services.common.errors import InterchangeError
from services.message import sending
from services.message.arrivals import ASSIGNED_S, KNOWN_S, Arrivals, Awaited
from services.message.customers import Customers
from services.message.domain import Draft
from services.message.faults import NotYetAssigned, NotYetKnown
from services.message.ports import Ports
from services.message.rates import SenderRates
from services.message.sending import Outcome

Submitted: TypeAlias = Draft | InterchangeError
"""A message, or what is wrong with it."""

_LATE = (NotYetKnown, NotYetAssigned)


class Outgoing:
    """Sends messages, alone or together."""

    def __init__(
        self,
        ports: Ports,
        arrivals: Arrivals,
        rates: SenderRates,
        batch_size_max: int,
    ) -> None:
        self._ports = ports
        self._customers = Customers(ports.uow)
        self._arrivals = arrivals
        self._rates = rates
        self._batcher: Batcher[Draft, Message] = Batcher(self._send, batch_size_max)

    async def one(self, tenant_id: str, submitted: Submitted) -> Message:
        """Send one message, gathered with those that others send meanwhile."""
        draft = self._admitted(tenant_id, submitted)
        if isinstance(draft, InterchangeError):
            raise draft
        try:
            return await self._batcher.submit(tenant_id, draft)
        except _LATE as late:
            if not await self._arrival(tenant_id, [draft], [late], KNOWN_S):
                raise
        return await self._batcher.submit(tenant_id, draft)

    async def many(
        self, tenant_id: str, batch: Sequence[Submitted], patience_s: float = KNOWN_S
    ) -> list[Outcome]:
        """Send a batch; each message has its own outcome."""
        admitted = [self._admitted(tenant_id, submitted) for submitted in batch]
        drafts = {place: one for place, one in enumerate(admitted) if isinstance(one, Draft)}
        outcomes: dict[int, Outcome] = {
            place: one for place, one in enumerate(admitted) if isinstance(one, InterchangeError)
        }
        outcomes |= await self._send_places(tenant_id, drafts)
        late = {place: one for place, one in outcomes.items() if isinstance(one, _LATE)}
        if late and patience_s:
            drafts = {place: drafts[place] for place in late}
            errors = list(late.values())
            if await self._arrival(tenant_id, list(drafts.values()), errors, patience_s):
                outcomes |= await self._send_places(tenant_id, drafts)
        return [outcomes[place] for place in range(len(batch))]

    def _admitted(self, tenant_id: str, submitted: Submitted) -> Submitted:
        if isinstance(submitted, InterchangeError):
            return submitted
        refusal = self._rates.take(tenant_id, submitted.sender, time.monotonic())
        return submitted if refusal is None else refusal

    async def _send_places(self, tenant_id: str, drafts: dict[int, Draft]) -> dict[int, Outcome]:
        if not drafts:
            return {}
        sent = await isolated(self._send, tenant_id, list(drafts.values()))
        return dict(zip(drafts, sent, strict=True))

    async def _send(self, tenant_id: str, drafts: Sequence[Draft]) -> list[Outcome]:
        return await sending.send(tenant_id, drafts, ports=self._ports, customers=self._customers)

    async def _arrival(
        self,
        tenant_id: str,
        drafts: Sequence[Draft],
        late: Sequence[InterchangeError],
        patience_s: float,
    ) -> bool:
        """Wait for what the messages came ahead of; tell whether some of it came."""
        if all(isinstance(error, NotYetAssigned) for error in late):
            patience_s = min(patience_s, ASSIGNED_S)
        awaited = [
            Awaited(
                draft.conversation_id,
                draft.sender.id if draft.sender.kind == SENDER_KIND_AGENT else "",
            )
            for draft in drafts
        ]
        return await self._arrivals.wait(tenant_id, awaited, patience_s)
