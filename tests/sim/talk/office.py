"""The callers' side: the real use cases of conversations and messages, without gRPC."""

from collections.abc import Awaitable, Collection, Mapping, Sequence
from hashlib import sha256
from typing import Any, TypeAlias

from interchange.conversation.v1 import conversation_pb2
from interchange.message.v1 import message_service_pb2 as pb
from interchange.message.v1.message_pb2 import Sender

from services.common import identity
from services.common.clock import BusinessClock
from services.common.errors import InterchangeError
from services.common.identity import Caller
from services.common.ids import Uuid7
from services.common.personal import KEY_BYTES, Keys, Seal
from services.common.work import UnitOfWork
from services.conversation import handlers as conversations
from services.conversation.commands import Change, Start
from services.conversation.news import News
from services.conversation.repository import Conversations, PostgresConversations
from services.message.arrivals import Arrivals, Awaited
from services.message.marking import Marking
from services.message.outgoing import Outgoing
from services.message.ports import Ports, Tell
from services.message.rates import SenderRates
from services.message.reading import Reader
from services.message.repository import Messages, PostgresMessages
from services.message.resuming import Resuming
from services.message.servicer import MessageServicer
from tests.sim.house import House

Outcome: TypeAlias = conversation_pb2.Conversation | InterchangeError

UNLIMITED = 1_000_000
BATCH_MAX = 100


class SimKeys(Keys):
    """Keys of customers that follow from their names."""

    async def of(self, tenant_id: str, customer_ids: Collection[str]) -> Mapping[str, Seal]:
        return {
            name: Seal(sha256(f"{tenant_id}/{name}".encode()).digest()[:KEY_BYTES])
            for name in customer_ids
        }


class NoArrivals(Arrivals):
    """Copies come when the simulation delivers them: there is nothing to wait for."""

    async def wait(self, tenant_id: str, awaited: Collection[Awaited], patience_s: float) -> bool:
        return False


class Office:
    """Takes what callers want, as the servicers do."""

    def __init__(
        self, house: House, clock: BusinessClock, ids: Uuid7, keys: Keys, push: Tell, news: News
    ) -> None:
        self._clock, self._ids, self._keys, self._push = clock, ids, keys, push
        self._news = news
        settings, databases = house.settings, house.databases
        self._conversations: UnitOfWork[Conversations] = UnitOfWork(
            databases["conversation"], settings, PostgresConversations, []
        )
        self._messages: UnitOfWork[Messages] = UnitOfWork(
            databases["message"], settings, PostgresMessages, []
        )
        self.restart()

    def restart(self) -> None:
        """Begin as a new process does: nothing is remembered."""
        ports = Ports(self._messages, self._keys, self._clock, self._ids, self._push)
        arrivals = NoArrivals(self._messages)
        rates = SenderRates(UNLIMITED, UNLIMITED)
        reader = Reader(self._messages, arrivals, self._clock)
        marking = Marking(ports, reader, BATCH_MAX)
        outgoing = Outgoing(ports, arrivals, rates, BATCH_MAX)
        # Nobody watches: the gateway follows by itself.
        nobody: Any = None
        resuming = Resuming(self._messages, arrivals, self._clock)
        self._servicer = MessageServicer(outgoing, reader, resuming, marking, nobody, nobody)

    async def start(self, tenant: str, commands: Sequence[Start]) -> list[Outcome]:
        """Start conversations in one transaction."""
        return await conversations.start_conversations(
            tenant, commands, uow=self._conversations, clock=self._clock, keys=self._keys
        )

    async def change(self, tenant: str, commands: Sequence[Change]) -> list[Outcome]:
        """Hand over, transfer, end and reopen in one transaction."""
        return await conversations.change_conversations(
            tenant, commands, uow=self._conversations, clock=self._clock, news=self._news
        )

    async def submit(
        self, tenant: str, submissions: Sequence[pb.Submission]
    ) -> Sequence[pb.SendMessageResult]:
        """Send messages of many senders in one transaction."""
        request = pb.SubmitMessagesRequest(submissions=submissions)
        answer = await self._as(_mesh(tenant), self._servicer.SubmitMessages(request, NO_CONTEXT))
        return answer.results

    async def mark(self, tenant: str, name: str, reader: Sender, read: int) -> int:
        """Move the mark of a reader; return how many moved."""
        one = pb.ReaderMark(conversation_id=name)
        one.mark.reader.CopyFrom(reader)
        one.mark.read_sequence = read
        request = pb.SubmitMarksRequest(marks=[one])
        answer = await self._as(_mesh(tenant), self._servicer.SubmitMarks(request, NO_CONTEXT))
        return answer.moved_count

    async def resume(self, caller: Caller, request: pb.ResumeMessagesRequest) -> Any:
        """Return what a reader missed."""
        return await self._as(caller, self._servicer.ResumeMessages(request, NO_CONTEXT))

    async def list(self, caller: Caller, request: pb.ListMessagesRequest) -> Any:
        """Return a page of messages."""
        return await self._as(caller, self._servicer.ListMessages(request, NO_CONTEXT))

    async def tails(self, tenant: str, names: Sequence[str]) -> Sequence[pb.Tail]:
        """Return how far conversations are."""
        request = pb.ListTailsRequest(conversation_ids=names)
        answer = await self._as(_mesh(tenant), self._servicer.ListTails(request, NO_CONTEXT))
        return answer.tails

    async def _as(self, caller: Caller, call: Awaitable[Any]) -> Any:
        # The call begins when it is awaited, and finds its caller then.
        identity.enter(caller)
        return await call


NO_CONTEXT: Any = None
"""The servicer asks nothing of gRPC."""


def _mesh(tenant: str) -> Caller:
    return identity.service(tenant, "gateway")
