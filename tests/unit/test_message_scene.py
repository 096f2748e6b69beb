"""Fakes of the message service's ports, in memory."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

from interchange.gateway.v1.gateway_pb2 import Push
from interchange.message.v1.message_events_pb2 import HANDLER_BOT
from interchange.message.v1.message_pb2 import SENDER_KIND_AGENT, SENDER_KIND_CUSTOMER, Message

from services.common.clock import ManualClock
from services.common.errors import InterchangeError
from services.common.ids import Uuid7
from services.common.outbox import Outbox
from services.common.personal import Keys, Seal
from services.common.work import Work, WorkUnits
from services.message.arrivals import Arrivals
from services.message.copies import Copies, CopyKey, EarlyReply
from services.message.domain import Conversation, Draft, MessageRow, Sender, SentKey, Tail
from services.message.marks import MarkKey, MarkRow
from services.message.outgoing import Outgoing
from services.message.ports import Ports
from services.message.rates import SenderRates
from services.message.reading import Reader
from services.message.repository import Messages

TENANT = "demo"
NOW = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
ANN = Sender(SENDER_KIND_CUSTOMER, "ann")
ANA = Sender(SENDER_KIND_AGENT, "ana")


def conversation(name: str, **changes: Any) -> Conversation:
    """Return a conversation of ann's with the bot."""
    values: dict[str, Any] = {
        "conversation_id": name,
        "customer_id": "ann",
        "channel": 1,
        "handler": HANDLER_BOT,
        "bot_id": "default",
        "agent_id": "",
        "hand_off": 0,
        "ended": False,
        "epoch": f"epoch of {name}",
        "first_sequence": 1,
        "last_sequence": 0,
        "event_sequence": 0,
        "marks_version": 0,
    }
    return Conversation(**(values | changes))


class MemoryMessages(Messages, Copies):
    """One tenant's messages in memory."""

    def __init__(self) -> None:
        self.known: dict[str, Conversation] = {}
        self.rows: list[MessageRow] = []
        self.stored_marks: dict[MarkKey, MarkRow] = {}
        self.early: list[EarlyReply] = []
        self.looks = 0
        """How often conversations were looked for."""

    @property
    def copies(self) -> "MemoryMessages":
        return self

    async def conversations(
        self, tenant_id: str, conversation_ids: Collection[str]
    ) -> dict[str, Conversation]:
        self.looks += 1
        return {name: deepcopy(self.known[name]) for name in conversation_ids if name in self.known}

    async def tails(self, tenant_id: str, conversation_ids: Collection[str]) -> list[Tail]:
        found = (self.known[name] for name in conversation_ids if name in self.known)
        return [Tail(*(getattr(one, field) for field in Tail._fields)) for one in found]

    async def sent(self, tenant_id: str, keys: Sequence[SentKey]) -> Mapping[SentKey, MessageRow]:
        wanted = {(key.conversation_id, key.client_message_id) for key in keys}
        return {row.key: row for row in self.rows if row.key[:2] in wanted}

    async def append(
        self, tenant_id: str, conversations: Sequence[Conversation], rows: Sequence[MessageRow]
    ) -> None:
        for one in conversations:
            self.known[one.conversation_id] = one
        self.rows += rows

    async def page_up(
        self, tenant_id: str, conversation_id: str, after: int, last: int, limit: int
    ) -> list[MessageRow]:
        found = [row for row in self.of(conversation_id) if after < row.sequence <= last]
        return found[:limit]

    async def page_down(
        self, tenant_id: str, conversation_id: str, before: int, limit: int
    ) -> list[MessageRow]:
        return [row for row in self.of(conversation_id) if row.sequence < before][-limit:]

    async def marks(self, tenant_id: str, keys: Sequence[MarkKey]) -> dict[MarkKey, MarkRow]:
        return {key: self.stored_marks[key] for key in keys if key in self.stored_marks}

    async def marks_of(self, tenant_id: str, conversation_id: str) -> list[MarkRow]:
        marks = self.stored_marks.values()
        return [mark for mark in marks if mark.conversation_id == conversation_id]

    async def move_marks(
        self, tenant_id: str, conversations: Sequence[Conversation], rows: Sequence[MarkRow]
    ) -> None:
        for one in conversations:
            self.known[one.conversation_id] = one
        self.stored_marks.update({row.key: row for row in rows})

    async def find(self, keys: Collection[CopyKey]) -> dict[CopyKey, Conversation]:
        return {key: deepcopy(self.known[key[1]]) for key in keys if key[1] in self.known}

    async def put(self, copies: Mapping[CopyKey, Conversation]) -> None:
        self.known.update({name: one for (_, name), one in copies.items()})

    async def insert(self, tenant_ids: Sequence[str], rows: Sequence[MessageRow]) -> None:
        self.rows += rows

    async def put_early(self, replies: Sequence[EarlyReply]) -> None:
        self.early += replies

    async def take_early(self, keys: Collection[CopyKey]) -> list[EarlyReply]:
        taken = [one for one in self.early if (one[0], one[2].conversation_id) in keys]
        self.early = [one for one in self.early if one not in taken]
        return taken

    def of(self, conversation_id: str) -> list[MessageRow]:
        """Return the messages of a conversation, by number."""
        found = [row for row in self.rows if row.conversation_id == conversation_id]
        return sorted(found, key=lambda row: row.sequence)


class MemoryUnits(WorkUnits[Messages]):
    """Units of work over one memory; `fails` makes the next commit fail."""

    def __init__(self) -> None:
        self.memory = MemoryMessages()
        self.numbers: dict[str, list[int]] = {}
        self.payloads: list[tuple[str, bytes]] = []
        self.locked: list[list[str]] = []
        self.fails = False

    @asynccontextmanager
    async def tenant(
        self, tenant_id: str, lock: Sequence[str] = ()
    ) -> AsyncIterator[Work[Messages]]:
        self.locked.append(list(lock))
        work: Work[Messages] = Work(self.memory, Outbox("message", 1))
        yield work
        if self.fails:
            raise ConnectionError("the database went away")
        self.keep(work)

    @asynccontextmanager
    async def reading(self, tenant_id: str) -> AsyncIterator[Messages]:
        yield self.memory

    def keep(self, work: Work[Messages]) -> None:
        """Take note of the events of a transaction."""
        for columns in work.outbox.columns:
            self.payloads += zip(columns.types, columns.payloads, strict=True)
            for key, sequence in zip(columns.keys, columns.sequences, strict=True):
                self.numbers.setdefault(key, []).append(sequence)


class MemoryKeys(Keys):
    """Keys in memory; those of `erased` were destroyed."""

    def __init__(self) -> None:
        self.seals: dict[str, Seal] = {}
        self.erased: set[str] = set()

    async def of(self, tenant_id: str, customer_ids: Collection[str]) -> Mapping[str, Seal]:
        for name in customer_ids:
            self.seals.setdefault(name, Seal(name.encode().ljust(32)))
        return {name: self.seals[name] for name in customer_ids if name not in self.erased}


class Desk:
    """The use cases over fakes."""

    def __init__(self, rate_per_s: int = 1_000, burst: int = 1_000) -> None:
        self.units = MemoryUnits()
        self.memory = self.units.memory
        self.keys = MemoryKeys()
        self.clock = ManualClock(NOW)
        self.ids = Uuid7()
        self.pushed: list[Push] = []
        self.ports = Ports(self.units, self.keys, self.clock, self.ids, self.push)
        self.arrivals = Arrivals(self.units)
        self.outgoing = Outgoing(self.ports, self.arrivals, SenderRates(rate_per_s, burst), 100)
        self.reader = Reader(self.units, self.arrivals, self.clock)

    def push(self, pushes: Iterable[Push]) -> None:
        self.pushed += pushes

    def start(self, **changes: Any) -> str:
        """Make a conversation known; return its id."""
        name = self.new_id()
        self.memory.known[name] = conversation(name, **changes)
        return name

    def new_id(self) -> str:
        return self.ids.batch(1, self.clock.now_us())[0]

    async def send(self, *drafts: Draft | InterchangeError) -> list[str]:
        """Send a batch; return `number:text` of each message, or why there is none."""
        outcomes = await self.outgoing.many(TENANT, drafts, 0.05)
        return [told(one) for one in outcomes]


def draft(name: str, text: str = "hello", client_id: str = "c-1", sender: Sender = ANN) -> Draft:
    """Return a text."""
    return Draft(name, client_id, sender, text, None, text.encode())


def told(outcome: Message | InterchangeError) -> str:
    if isinstance(outcome, InterchangeError):
        return outcome.reason
    return f"{outcome.sequence}:{outcome.text}"
