"""Sessions of the sockets here: opened, resumed and left in batches, kept by one heartbeat.

Now and then all are compared with what the session service knows. That repairs what an
answer that was lost, or a departure that was not told, left behind: a session that
nobody would end while this instance lives.
"""

import asyncio
import random
import time
from collections.abc import Iterable
from typing import NamedTuple

import structlog
from interchange.session.v1.session_pb2 import SUBJECT_KIND_AGENT, SUBJECT_KIND_CUSTOMER
from interchange.session.v1.session_service_pb2 import Attachment, AttachResult

from services.common.config import Settings
from services.common.identity import AGENT, Caller
from services.gateway.frames_in import Hello
from services.gateway.gathering import Gatherer
from services.gateway.holdings import Attached, Holding
from services.gateway.refusals import of_status, refusal
from services.gateway.upstream import Upstream

BATCH_MAX = 1_000
CONFIRMED_MAX = 20_000
"""Sessions of one tenant that can be confirmed: what a call does not name is let go of."""
FIRST_INTERVAL_S = 5.0
INTERVAL_MIN_S = 0.05
log = structlog.get_logger()


class _Wish(NamedTuple):
    socket: Attached
    attachment: Attachment

    @property
    def session_id(self) -> str:
        """The session to take up again; empty for a new one."""
        return self.attachment.session_id


class _Left(NamedTuple):
    session_id: str
    ended: bool


class Sessions:
    """The sessions whose sockets this instance holds.

    Arrivals and departures of a tenant wait in one queue: a client that left and
    comes back at once must not be let go of after it was taken in.
    """

    def __init__(self, upstream: Upstream, settings: Settings) -> None:
        self._upstream = upstream
        self._confirm_s = settings.gateway_confirm_ms / 1000
        self._holdings: dict[str, Holding] = {}
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
        return self._add(caller.tenant_id, _Wish(socket, attachment))

    def leave(self, socket: Attached, tenant_id: str, *, ended: bool) -> None:
        """Let go of a socket's session: for good, or to be resumed."""
        session_id = socket.session_id
        # Another socket may have resumed it here meanwhile.
        if session_id and self._holding(tenant_id).release(session_id, socket):
            # One that finds no room is left by the next confirmation.
            self._add(tenant_id, _Left(session_id, ended))

    def _holding(self, tenant_id: str) -> Holding:
        return self._holdings.setdefault(tenant_id, Holding())

    def _add(self, tenant_id: str, item: _Wish | _Left) -> bool:
        taken = self.waiting.add(tenant_id, item)
        if taken:
            self._holding(tenant_id).depart(item.session_id)
        return taken

    async def _handle(self, tenant_id: str, batch: list[_Wish | _Left]) -> None:
        try:
            await self._move(tenant_id, batch)
        finally:
            holding = self._holding(tenant_id)
            holding.asked()
            for each in batch:
                holding.arrive(each.session_id)

    async def _move(self, tenant_id: str, batch: list[_Wish | _Left]) -> None:
        wishes = [each for each in batch if isinstance(each, _Wish)]
        resumed = {each.session_id for each in wishes}
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
        before = self._holding(tenant_id).hold(session_id, socket)
        if before is not None:
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
            # The next confirmation lets go of them: this instance keeps them alive.
            log.warning("sessions were not left", count=len(left), reason=refusal(error).reason)

    async def run(self) -> None:
        """Keep the sessions until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep())
            tasks.create_task(self._repair())

    async def _keep(self) -> None:
        pause = 0.0
        while True:
            await asyncio.sleep(pause)
            asked_at = time.monotonic()
            try:
                answer = await self._upstream.heartbeat()
            except Exception as error:
                log.warning("heartbeat failed", reason=refusal(error).reason)
                pause = FIRST_INTERVAL_S / 5
                continue
            for holding in tuple(self._holdings.values()):
                _expire(holding.lose(answer.lost_session_ids, asked_at))
            pause = max(INTERVAL_MIN_S, answer.interval_ms / 1000) or FIRST_INTERVAL_S

    async def _repair(self) -> None:
        while True:
            # Instances that started together must not ask together for ever.
            await asyncio.sleep(self._confirm_s * random.uniform(0.75, 1.25))
            for tenant_id in tuple(self._holdings):
                await self._confirm(tenant_id, self._holdings[tenant_id])

    async def _confirm(self, tenant_id: str, holding: Holding) -> None:
        asked_at, named = time.monotonic(), holding.named()
        if len(named) > CONFIRMED_MAX:
            # In parts it can't be done: each would let go of what the others name.
            log.warning("too many sessions to confirm", tenant=tenant_id, count=len(named))
            return
        try:
            lost = await self._upstream.confirm(tenant_id, named)
        except Exception as error:
            reason = refusal(error).reason
            log.warning("sessions were not confirmed", tenant=tenant_id, reason=reason)
            return
        _expire(holding.lose(lost, asked_at))
        if not named and holding.is_over(asked_at):
            del self._holdings[tenant_id]


def _expire(sockets: Iterable[Attached]) -> None:
    for socket in sockets:
        socket.lost("SESSION_EXPIRED")
