"""One attempt to send a batch of messages of one tenant, in one transaction."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from interchange.message.v1.message_pb2 import SENDER_KIND_AGENT, Message

from services.common.errors import InterchangeError
from services.common.work import Work
from services.message import domain, faults, responses
from services.message.appended import Appended
from services.message.customers import Customers
from services.message.domain import Conversation, Draft, MessageRow, SentKey
from services.message.ports import Ports
from services.message.repository import Messages

Outcome: TypeAlias = Message | InterchangeError


async def send(
    tenant_id: str, drafts: Sequence[Draft], *, ports: Ports, customers: Customers
) -> list[Outcome]:
    """Send what can be sent; return the outcome of each message.

    A refused message stores nothing and uses up no id.
    """
    attempt = Attempt(tenant_id, drafts, ports)
    names = await customers.of(tenant_id, {draft.conversation_id for draft in drafts})
    await attempt.seal(names)
    locked = attempt.conversation_ids
    if locked:
        async with ports.uow.tenant(tenant_id, locked) as work:
            appended = await attempt.write(work)
        messages = [attempt.answer(row) for row in appended.rows]
        ports.push(responses.message_pushes(tenant_id, messages))
    return attempt.outcomes


class Attempt:
    """The messages of a batch, and what became of them so far."""

    def __init__(self, tenant_id: str, drafts: Sequence[Draft], ports: Ports) -> None:
        self._tenant_id = tenant_id
        self._drafts = drafts
        self._ports = ports
        self._now_us = ports.clock.now_us()
        self._sealed: dict[int, bytes] = {}
        """By place in the batch; those that are not refused yet."""
        self._refused: dict[int, InterchangeError] = {}
        self._stored: dict[int, MessageRow] = {}
        self._answers: dict[tuple[str, int], Message] = {}

    @property
    def conversation_ids(self) -> list[str]:
        """Conversations of the messages that may be sent, each once."""
        return sorted({self._drafts[place].conversation_id for place in self._sealed})

    @property
    def outcomes(self) -> list[Outcome]:
        """What became of each message."""
        return [
            self.answer(self._stored[place]) if place in self._stored else self._refused[place]
            for place in range(len(self._drafts))
        ]

    def answer(self, row: MessageRow) -> Message:
        """Return a message as its sender and all others see it."""
        key = row.conversation_id, row.sequence
        found = self._answers.get(key)
        if found is None:
            found = self._answers[key] = responses.message(row)
        return found

    async def seal(self, customers: Mapping[str, str]) -> None:
        """Seal what the messages say, each under the key of its customer."""
        seals = await self._ports.keys.of(self._tenant_id, set(customers.values()))
        for place, draft in enumerate(self._drafts):
            customer_id = customers.get(draft.conversation_id)
            if customer_id is None:
                young = domain.is_young(draft.conversation_id, self._now_us)
                self._refused[place] = faults.not_yet_known() if young else faults.not_found()
            elif customer_id not in seals:
                self._refused[place] = faults.erased()
            else:
                seal = seals[customer_id]
                self._sealed[place] = seal.seal(draft.clear, draft.conversation_id)

    async def write(self, work: Work[Messages]) -> Appended:
        """Number, store and announce what may be sent."""
        conversations = await work.repository.conversations(self._tenant_id, self.conversation_ids)
        keys = {place: _key(self._drafts[place]) for place in self._sealed}
        taken = dict(await work.repository.sent(self._tenant_id, list(set(keys.values()))))
        message_ids = iter(self._ports.ids.batch(len(keys), self._now_us))
        appended = Appended()
        for place, key in keys.items():
            draft = self._drafts[place]
            first = taken.get(key)
            if first is None:
                conversation = conversations[draft.conversation_id]
                if (refusal := _refusal(conversation, draft)) is not None:
                    self._refused[place] = refusal
                    continue
                first = taken[key] = conversation.append(
                    next(message_ids),
                    draft.sender,
                    self._now_us,
                    body=draft.body,
                    detail=draft.detail,
                    client_message_id=draft.client_message_id,
                )
                appended.add(self._tenant_id, conversation, first, self._sealed[place])
            elif (first.body, first.detail) != (draft.body, draft.detail):
                self._refused[place] = faults.client_id_reused()
                continue
            self._stored[place] = first
        await self._store(work, appended, conversations)
        return appended

    async def _store(
        self,
        work: Work[Messages],
        appended: Appended,
        conversations: Mapping[str, Conversation],
    ) -> None:
        if not appended.rows:
            return
        changed = {row.conversation_id for row in appended.rows}
        await work.repository.append(
            self._tenant_id, [conversations[name] for name in changed], appended.rows
        )
        for columns in appended.events:
            work.outbox.add(columns)


def _key(draft: Draft) -> SentKey:
    sender = draft.sender
    return SentKey(draft.conversation_id, draft.client_message_id, sender.id, sender.kind)


def _refusal(conversation: Conversation, draft: Draft) -> InterchangeError | None:
    """Return why somebody may not send to a conversation."""
    if not conversation.has(draft.sender):
        awaited = conversation.is_queued and draft.sender.kind == SENDER_KIND_AGENT
        return faults.not_yet_assigned() if awaited else faults.not_found()
    return faults.ended() if conversation.ended else None
