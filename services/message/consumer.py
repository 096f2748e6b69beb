"""Kafka in: conversations to copies, what happens to them and what bots say to messages.

A batch is read into memory, decided event by event, and written by a few statements.
"""

from collections.abc import Callable, Sequence
from uuid import uuid4

from google.protobuf.message import Message
from interchange.bot.v1.bot_events_pb2 import BotReplied
from interchange.conversation.v1.conversation_events_pb2 import (
    ConversationAssigned,
    ConversationEnded,
    ConversationHandedOff,
    ConversationReopened,
    ConversationStarted,
)
from interchange.gateway.v1.gateway_pb2 import Push

from services.common.events import Event
from services.common.personal import Keys, Seal
from services.common.work import Work
from services.message.copies import CopyKey, EarlyReply
from services.message.following import Following
from services.message.ports import Tell
from services.message.repository import Messages

TOPICS = ("conversation-events", "bot-events")
MESSAGES: tuple[type[Message], ...] = (
    ConversationStarted,
    ConversationHandedOff,
    ConversationAssigned,
    ConversationEnded,
    ConversationReopened,
    BotReplied,
)


class Follower:
    """Follows conversation-events and bot-events.

    The applier calls `prepare` before the transaction of a batch, `apply` within it,
    and `applied` after its commit.
    """

    def __init__(self, keys: Keys, push: Tell, wake: Callable[[], None]) -> None:
        self._keys = keys
        self._push = push
        self._wake = wake
        self._seals: dict[CopyKey, Seal] = {}
        """By tenant and customer, of the batch."""
        self._pushes: list[Push] = []

    async def prepare(self, events: Sequence[Event]) -> Sequence[CopyKey]:
        """Find the keys of the customers; return the conversations to lock.

        What an earlier batch left untold is forgotten: its transaction failed.
        """
        self._pushes.clear()
        customers: dict[str, set[str]] = {}
        for event in events:
            if isinstance(event.message, ConversationStarted | BotReplied):
                customers.setdefault(event.tenant_id, set()).add(event.message.customer_id)
        self._seals = {
            (tenant_id, customer_id): seal
            for tenant_id, names in customers.items()
            for customer_id, seal in (await self._keys.of(tenant_id, names)).items()
        }
        return [(event.tenant_id, event.key) for event in events]

    async def apply(self, events: Sequence[Event], *, work: Work[Messages]) -> None:
        """Apply a batch, in order."""
        copies = work.repository.copies
        keys = {(event.tenant_id, event.key) for event in events}
        starting = {
            (event.tenant_id, event.key)
            for event in events
            if isinstance(event.message, ConversationStarted)
        }
        following = Following(
            copies=await copies.find(sorted(keys)),
            seal_of=self._seal_of,
            new_epoch=lambda: str(uuid4()),
            ahead=_by_key(await copies.take_early(sorted(starting))),
        )
        for event in events:
            _follow(following, event)
        await copies.put(following.copies)
        await copies.put_early([early for kept in following.ahead.values() for early in kept])
        await copies.insert(following.appended.tenant_ids, following.appended.rows)
        for columns in following.appended.events:
            work.outbox.add(columns)
        # Last: a batch that fails leaves nothing to tell.
        self._pushes += following.appended.pushes()

    def applied(self) -> None:
        """Tell the followers what was committed, and those who wait for copies to look."""
        self._wake()
        pushes, self._pushes = self._pushes, []
        self._push(pushes)

    def _seal_of(self, tenant_id: str, customer_id: str) -> Seal | None:
        return self._seals.get((tenant_id, customer_id))


def _follow(following: Following, event: Event) -> None:
    tenant_id = event.tenant_id
    match event.message:
        case ConversationStarted() as message:
            following.started(tenant_id, message)
        case ConversationHandedOff() as message:
            following.handed_off(tenant_id, message)
        case ConversationAssigned() as message:
            following.assigned(tenant_id, message)
        case ConversationEnded() as message:
            following.ended(tenant_id, message)
        case ConversationReopened() as message:
            following.reopened(tenant_id, message)
        case BotReplied() as message:
            following.replied(tenant_id, event.sequence, message)


def _by_key(replies: Sequence[EarlyReply]) -> dict[CopyKey, list[EarlyReply]]:
    found: dict[CopyKey, list[EarlyReply]] = {}
    for early in replies:
        found.setdefault((early[0], early[2].conversation_id), []).append(early)
    return found
