"""Sessions of the sockets here: opened, resumed and left in batches, kept by one heartbeat."""

import asyncio
from typing import NamedTuple, Protocol

import structlog
from interchange.session.v1.session_pb2 import SUBJECT_KIND_AGENT, SUBJECT_KIND_CUSTOMER
from interchange.session.v1.session_service_pb2 import Attachment, AttachResult

from services.common.identity import AGENT, Caller
from services.gateway import frames_out
from services.gateway.frames_in import Hello
from services.gateway.gathering import Gatherer
from services.gateway.refusals import of_status, refusal
from services.gateway.upstream import Upstream

BATCH_MAX = 1_000
FIRST_INTERVAL_S = 5.0
INTERVAL_MIN_S = 0.05
log = structlog.get_logger()


class Attached(Protocol):
    """A socket that has, or wants, a session."""

    session_id: str

    def attached(self, result: AttachResult) -> bool:
        """Take the session; False when the socket is gone."""

    def not_attached(self, error: frames_out.Error) -> None:
        """Take why there is none."""

    def lost(self, reason: str) -> None:
        """Take that the session is gone."""


class _Wish(NamedTuple):
    socket: Attached
    attachment: Attachment


class _Left(NamedTuple):
    session_id: str
    ended: bool


class Sessions:
    """The sessions whose sockets this instance holds.

    Arrivals and departures of a tenant wait in one queue: a client that left and
    comes back at once must not be let go of after it was taken in.
    """

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._holders: dict[str, Attached] = {}
        self.waiting: Gatherer[_Wish | _Left] = Gatherer(self._handle, BATCH_MAX)

    def open(self, socket: Attached, caller: Caller, hello: Hello) -> bool:
        """Open or resume the session of a socket; False when too many wait."""
        agent = AGENT in caller.roles or not caller.narrow
        attachment = Attachment(
            subject=caller.subject,
            subject_kind=SUBJECT_KIND_AGENT if agent else SUBJECT_KIND_CUSTOMER,
            client=hello.client,
            session_id=hello.session_id,
            secret=hello.secret,
        )
        return self.waiting.add(caller.tenant_id, _Wish(socket, attachment))

    def leave(self, socket: Attached, tenant_id: str, *, ended: bool) -> None:
        """Let go of a socket's session: for good, or to be resumed."""
        session_id = socket.session_id
        # Another socket may have resumed it here meanwhile.
        if session_id and self._holders.get(session_id) is socket:
            del self._holders[session_id]
            self.waiting.add(tenant_id, _Left(session_id, ended))

    async def _handle(self, tenant_id: str, batch: list[_Wish | _Left]) -> None:
        wishes = [each for each in batch if isinstance(each, _Wish)]
        resumed = {each.attachment.session_id for each in wishes}
        left = [
            each
            for each in batch
            if isinstance(each, _Left) and (each.ended or each.session_id not in resumed)
        ]
        if left:
            await self._detach(tenant_id, left)
        if wishes:
            await self._attach(tenant_id, wishes)

    async def _attach(self, tenant_id: str, wishes: list[_Wish]) -> None:
        try:
            results = await self._upstream.attach(tenant_id, [each.attachment for each in wishes])
        except Exception as error:
            for each in wishes:
                each.socket.not_attached(refusal(error))
            return
        for each, result in zip(wishes, results, strict=True):
            if result.HasField("error"):
                each.socket.not_attached(of_status(result.error))
            else:
                self._hold(tenant_id, each.socket, result)

    def _hold(self, tenant_id: str, socket: Attached, result: AttachResult) -> None:
        session_id = result.session.session_id
        before = self._holders.get(session_id)
        self._holders[session_id] = socket
        if before is not None and before is not socket:
            before.lost("SESSION_RESUMED_ELSEWHERE")
        if not socket.attached(result):
            # It went while we asked.
            self.leave(socket, tenant_id, ended=False)

    async def _detach(self, tenant_id: str, left: list[_Left]) -> None:
        ended = [each.session_id for each in left if each.ended]
        broken = [each.session_id for each in left if not each.ended]
        try:
            await self._upstream.detach(tenant_id, ended, broken)
        except Exception as error:
            # They run out by themselves.
            log.warning("sessions were not left", count=len(left), reason=refusal(error).reason)

    async def run(self) -> None:
        """Keep the sessions until cancelled."""
        pause = 0.0
        while True:
            await asyncio.sleep(pause)
            try:
                answer = await self._upstream.heartbeat()
            except Exception as error:
                log.warning("heartbeat failed", reason=refusal(error).reason)
                pause = FIRST_INTERVAL_S / 5
                continue
            for session_id in answer.lost_session_ids:
                holder = self._holders.pop(session_id, None)
                if holder is not None:
                    holder.lost("SESSION_EXPIRED")
            pause = max(INTERVAL_MIN_S, answer.interval_ms / 1000) or FIRST_INTERVAL_S
