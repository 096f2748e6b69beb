"""gRPC in: requests to commands, results to responses."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from interchange.session.v1 import session_pb2
from interchange.session.v1 import session_service_pb2 as pb
from interchange.session.v1.session_service_pb2_grpc import SessionServiceServicer

from services.common import identity
from services.common.batcher import Batcher, isolated
from services.common.errors import InterchangeError, InvalidArgument
from services.common.identity import AGENT, Caller
from services.common.work import WorkUnits
from services.session import domain, events, handlers, instances
from services.session.commands import Attach, Close, Command, Keep, Open, Outcome, Resume
from services.session.domain import Kind, Timings
from services.session.handlers import Result
from services.session.repository import Sessions
from services.session.writing import Push

ATTACHMENTS_MAX = 1_000
ENDED_MAX = 1_000
BROKEN_MAX = 5_000
CONFIRMED_MAX = 20_000
SUBJECTS_MAX = 1_000
SECRET_LENGTH_MAX = 64
KINDS = {message: kind for kind, message in events.KINDS.items()}


class SessionServicer(SessionServiceServicer):
    """Knows who is connected, and where."""

    def __init__(
        self, uow: WorkUnits[Sessions], timings: Timings, pusher: Push, batch_size_max: int
    ) -> None:
        self._uow = uow
        self._timings = timings
        self._pusher = pusher
        self._batcher: Batcher[Command, Outcome] = Batcher(self._settle, batch_size_max)

    async def OpenSession(
        self, request: pb.OpenSessionRequest, context: Any
    ) -> pb.OpenSessionResponse:
        """Open a session of the caller."""
        domain.check_client(request.client)
        caller = identity.current()
        command = Open(caller.subject, _kind(caller), request.client)
        outcome = await self._batcher.submit(caller.tenant_id, command)
        return pb.OpenSessionResponse(session=self._message(outcome), secret=outcome.secret)

    async def HeartbeatSession(
        self, request: pb.HeartbeatSessionRequest, context: Any
    ) -> session_pb2.Session:
        """Let a session of the caller live on."""
        caller = identity.current()
        return await self._one(caller, Keep(caller.subject, _uuid(request.session_id)))

    async def ResumeSession(
        self, request: pb.ResumeSessionRequest, context: Any
    ) -> session_pb2.Session:
        """Take a session of the caller up again."""
        caller = identity.current()
        command = Resume(caller.subject, _uuid(request.session_id), request.secret)
        return await self._one(caller, command)

    async def EndSession(self, request: pb.EndSessionRequest, context: Any) -> session_pb2.Session:
        """End a session of the caller."""
        caller = identity.current()
        return await self._one(caller, Close(caller.subject, _uuid(request.session_id)))

    async def ListSessions(
        self, request: pb.ListSessionsRequest, context: Any
    ) -> pb.ListSessionsResponse:
        """List open sessions, newest first."""
        caller = identity.current()
        subject = request.subject
        if caller.narrow:
            if subject and subject != caller.subject:
                return pb.ListSessionsResponse()
            subject = caller.subject
        sessions, token = await handlers.list_sessions(
            caller.tenant_id, subject, request.page_size, request.page_token, uow=self._uow
        )
        messages = [events.session_message(one, self._timings) for one in sessions]
        return pb.ListSessionsResponse(sessions=messages, next_page_token=token)

    async def AttachSessions(
        self, request: pb.AttachSessionsRequest, context: Any
    ) -> pb.AttachSessionsResponse:
        """Open or resume sessions for the sockets of one instance."""
        _check_instance(request.instance_id)
        _bounded("attachments", request.attachments, ATTACHMENTS_MAX)
        asked = [_attach(request.instance_id, one) for one in request.attachments]
        commands = [one for one in asked if isinstance(one, Attach)]
        results = iter(await isolated(self._settle, identity.current().tenant_id, commands))
        # What was refused at once keeps its place.
        outcomes = [next(results) if isinstance(one, Attach) else one for one in asked]
        return pb.AttachSessionsResponse(results=[self._attached(one) for one in outcomes])

    async def DetachSessions(
        self, request: pb.DetachSessionsRequest, context: Any
    ) -> pb.DetachSessionsResponse:
        """End sessions, or leave them to be resumed."""
        _check_instance(request.instance_id)
        _bounded("ended_session_ids", request.ended_session_ids, ENDED_MAX)
        _bounded("broken_session_ids", request.broken_session_ids, BROKEN_MAX)
        count = await instances.detach(
            identity.current().tenant_id,
            request.instance_id,
            _known(request.ended_session_ids),
            _known(request.broken_session_ids),
            uow=self._uow,
            timings=self._timings,
            pusher=self._pusher,
        )
        return pb.DetachSessionsResponse(detached_count=count)

    async def HeartbeatInstance(
        self, request: pb.HeartbeatInstanceRequest, context: Any
    ) -> pb.HeartbeatInstanceResponse:
        """Let an instance live on, and tell it what it lost."""
        _check_instance(request.instance_id)
        lost = await instances.heartbeat(
            identity.current().tenant_id,
            request.instance_id,
            uow=self._uow,
            timings=self._timings,
        )
        interval_ms = self._timings.heartbeat_ms
        return pb.HeartbeatInstanceResponse(lost_session_ids=lost, interval_ms=interval_ms)

    async def ConfirmSessions(
        self, request: pb.ConfirmSessionsRequest, context: Any
    ) -> pb.ConfirmSessionsResponse:
        """Compare what an instance holds with what it was given."""
        _check_instance(request.instance_id)
        _bounded("session_ids", request.session_ids, CONFIRMED_MAX)
        lost = await instances.confirm(
            identity.current().tenant_id,
            request.instance_id,
            request.session_ids,
            uow=self._uow,
            timings=self._timings,
            pusher=self._pusher,
        )
        return pb.ConfirmSessionsResponse(lost_session_ids=lost)

    async def ListPresence(
        self, request: pb.ListPresenceRequest, context: Any
    ) -> pb.ListPresenceResponse:
        """Tell which subjects are there."""
        _bounded("subjects", request.subjects, SUBJECTS_MAX)
        tenant_id = identity.current().tenant_id
        online = await handlers.list_presence(tenant_id, request.subjects, uow=self._uow)
        return pb.ListPresenceResponse(online_subjects=online)

    async def _one(self, caller: Caller, command: Command) -> session_pb2.Session:
        return self._message(await self._batcher.submit(caller.tenant_id, command))

    async def _settle(self, tenant_id: str, commands: Sequence[Command]) -> list[Result]:
        return await handlers.settle(
            tenant_id, commands, uow=self._uow, timings=self._timings, pusher=self._pusher
        )

    def _message(self, outcome: Outcome) -> session_pb2.Session:
        return events.session_message(outcome.session, self._timings)

    def _attached(self, outcome: Result) -> pb.AttachResult:
        if isinstance(outcome, InterchangeError):
            return pb.AttachResult(error=outcome.to_status())
        return pb.AttachResult(
            session=self._message(outcome), secret=outcome.secret, resumed=outcome.resumed
        )


def _kind(caller: Caller) -> Kind:
    """Return what a caller is, as the gateway says it of his sockets."""
    return Kind.AGENT if AGENT in caller.roles or not caller.narrow else Kind.CUSTOMER


def _attach(instance_id: str, attachment: pb.Attachment) -> Attach | InterchangeError:
    try:
        if not domain.is_name(attachment.subject):
            raise InvalidArgument.of("subject", "INVALID_SUBJECT", "is not the name of a caller")
        if attachment.subject_kind not in KINDS:
            raise InvalidArgument.of("subject_kind", "INVALID_SUBJECT_KIND", "is no kind")
        domain.check_client(attachment.client)
        if len(attachment.secret) > SECRET_LENGTH_MAX:
            expected = f"expected at most {SECRET_LENGTH_MAX} characters"
            raise InvalidArgument.of("secret", "INVALID_SECRET", expected)
        if attachment.session_id and not _is_uuid(attachment.session_id):
            raise InvalidArgument.of("session_id", "INVALID_SESSION_ID", "is no UUID")
    except InvalidArgument as error:
        return error
    kind = KINDS[attachment.subject_kind]
    new = Open(attachment.subject, kind, attachment.client)
    session_id = _uuid(attachment.session_id) if attachment.session_id else ""
    return Attach(new, instance_id, session_id, attachment.secret)


def _check_instance(instance_id: str) -> None:
    if not domain.is_name(instance_id):
        text = "expected printable characters without spaces"
        raise InvalidArgument.of("instance_id", "INVALID_INSTANCE_ID", text)


def _bounded(field: str, values: Sequence[Any], count_max: int) -> None:
    if len(values) > count_max:
        text = f"had {len(values)} entries, expected at most {count_max}"
        raise InvalidArgument.of(field, "TOO_MANY_ENTRIES", text)


def _known(session_ids: Sequence[str]) -> list[str]:
    """Return ids as they are stored; what is none names nothing."""
    return [_uuid(one) for one in session_ids if _is_uuid(one)]


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _uuid(text: str) -> str:
    return str(UUID(text))
