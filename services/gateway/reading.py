"""Reads of messages, as the one who asked for them: what he may see is decided there.

First pages of those who come at the same time are read together, as a storm of
reconnections is; what is not simple is asked again for one alone.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple
from weakref import WeakValueDictionary

import grpc
import structlog
from interchange.message.v1.message_service_pb2 import (
    ResumeMessagesResponse,
    ResumeResult,
    ResumeSubmission,
)

from services.common.errors import Aborted
from services.common.identity import Caller
from services.gateway.gathering import Gatherer
from services.gateway.refusals import is_missing
from services.gateway.upstream import Upstream

log = structlog.get_logger()

PAGES = (500, 100)
"""Messages a page; the smaller where long ones would not fit a message of gRPC."""
READS_MAX = 32
"""Reads of a tenant at the same time: all clients come back at once after a restart."""
ASSIGNED_S = 10.0
"""How long it may take until all know of an assignment that the agent knows already."""
ASSIGNED_PAUSE_S = 0.05
TOGETHER_TIMES = 8
"""How often what may become known any moment is asked for; each waits 250 ms."""
TOGETHER_MAX = 200
BATCHES_MAX = 8
"""Batches of a tenant at the same time: one may wait for what is only just known."""


NOT_YET_KNOWN = Aborted(
    "CONVERSATION_NOT_YET_KNOWN", "the conversation is not known here yet; try again"
)


class _Coming(NamedTuple):
    submission: ResumeSubmission
    found: "asyncio.Future[ResumeResult]"


class Reading:
    """Reads pages of conversations; raises AioRpcError."""

    def __init__(self, upstream: Upstream, on_desk: Callable[[Caller, str], bool]) -> None:
        """`on_desk` says whether an agent was given a conversation: then it is his,
        even if not everybody knows it yet.
        """
        self._upstream = upstream
        self._on_desk = on_desk
        self._reads: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        """By tenant, as long as anybody reads: one that floods waits behind itself."""
        self._coming: Gatherer[_Coming] = Gatherer(self._together, TOGETHER_MAX, BATCHES_MAX)

    async def first(
        self, caller: Caller, conversation_id: str, after: int, epoch: str
    ) -> ResumeMessagesResponse:
        """Read the first page, as one who may just have been given the conversation."""
        for _ in range(TOGETHER_TIMES):
            result = await self._with_others(caller, conversation_id, after, epoch)
            if result.HasField("response"):
                return result.response
            if not result.awaited:
                break
        else:
            # Not asked alone: that would hold one of few places for as long again.
            raise NOT_YET_KNOWN
        ends = time.monotonic() + ASSIGNED_S
        while True:
            try:
                return await self.page(caller, conversation_id, after, epoch)
            except grpc.aio.AioRpcError as error:
                late = time.monotonic() > ends
                if late or not is_missing(error) or not self._on_desk(caller, conversation_id):
                    raise
            await asyncio.sleep(ASSIGNED_PAUSE_S)

    async def _with_others(
        self, caller: Caller, conversation_id: str, after: int, epoch: str
    ) -> ResumeResult:
        """Read the first page together with others; empty when it is to be read alone."""
        found: asyncio.Future[ResumeResult]
        found = asyncio.get_running_loop().create_future()
        submission = ResumeSubmission(
            subject=caller.subject,
            roles=caller.roles,
            conversation_id=conversation_id,
            after_sequence=after,
            epoch=epoch,
        )
        taken = caller.may("message.read") and self._coming.add(
            caller.tenant_id, _Coming(submission, found)
        )
        return await found if taken else ResumeResult()

    async def _together(self, tenant_id: str, batch: list[_Coming]) -> None:
        results: Sequence[ResumeResult] = [ResumeResult()] * len(batch)
        try:
            results = await self._upstream.resume_many(
                tenant_id, [each.submission for each in batch]
            )
        except grpc.aio.AioRpcError as error:
            log.warning("read together failed", size=len(batch), error=error.details())
        finally:
            for each, result in zip(batch, results, strict=True):
                if not each.found.done():
                    each.found.set_result(result)

    async def page(
        self, caller: Caller, conversation_id: str, after: int, epoch: str
    ) -> ResumeMessagesResponse:
        """Read a page, and whether it continues what was seen."""
        async with self._place(caller):
            for size in PAGES:
                try:
                    return await self._upstream.resume(caller, conversation_id, after, epoch, size)
                except grpc.aio.AioRpcError as error:
                    full = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                    if not full or size == PAGES[-1]:
                        raise
        raise AssertionError("PAGES is empty")

    def _place(self, caller: Caller) -> asyncio.Semaphore:
        place = self._reads.get(caller.tenant_id)
        if place is None:
            place = self._reads[caller.tenant_id] = asyncio.Semaphore(READS_MAX)
        return place
