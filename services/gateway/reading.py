"""Reads of messages, as the one who asked for them: what he may see is decided there.

First pages of those who come at the same time are read together, as a storm of
reconnections is; what is not simple is asked again for one alone.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import grpc
import structlog
from interchange.message.v1.message_pb2 import Message
from interchange.message.v1.message_service_pb2 import ResumeMessagesResponse, ResumeSubmission

from services.common.identity import Caller
from services.gateway.gathering import Gatherer
from services.gateway.refusals import is_missing
from services.gateway.upstream import Upstream

log = structlog.get_logger()

PAGES = (500, 100)
"""Messages a page; the smaller where long ones would not fit a message of gRPC."""
READS_MAX = 64
"""Reads at the same time: all clients come back at once after a restart."""
ASSIGNED_S = 10.0
"""How long it may take until all know of an assignment that the agent knows already."""
ASSIGNED_PAUSE_S = 0.05
TOGETHER_MAX = 200
BATCHES_MAX = 8
"""Batches of a tenant at the same time: one may wait for what is only just known."""


class _Coming(NamedTuple):
    submission: ResumeSubmission
    found: "asyncio.Future[ResumeMessagesResponse | None]"


class Reading:
    """Reads pages of conversations; raises AioRpcError."""

    def __init__(self, upstream: Upstream, on_desk: Callable[[Caller, str], bool]) -> None:
        """`on_desk` says whether an agent was given a conversation: then it is his,
        even if not everybody knows it yet.
        """
        self._upstream = upstream
        self._on_desk = on_desk
        self._reads = asyncio.Semaphore(READS_MAX)
        self._coming: Gatherer[_Coming] = Gatherer(self._together, TOGETHER_MAX, BATCHES_MAX)

    async def first(
        self, caller: Caller, conversation_id: str, after: int, epoch: str
    ) -> ResumeMessagesResponse:
        """Read the first page, as one who may just have been given the conversation."""
        page = await self._with_others(caller, conversation_id, after, epoch)
        if page is not None:
            return page
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
    ) -> ResumeMessagesResponse | None:
        """Read the first page together with others; None when it is to be read alone."""
        found: asyncio.Future[ResumeMessagesResponse | None]
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
        return await found if taken else None

    async def _together(self, tenant_id: str, batch: list[_Coming]) -> None:
        pages: Sequence[ResumeMessagesResponse | None] = [None] * len(batch)
        try:
            results = await self._upstream.resume_many(
                tenant_id, [each.submission for each in batch]
            )
            pages = [each.response if each.HasField("response") else None for each in results]
        except grpc.aio.AioRpcError as error:
            log.warning("read together failed", size=len(batch), error=error.details())
        finally:
            for each, page in zip(batch, pages, strict=True):
                if not each.found.done():
                    each.found.set_result(page)

    async def page(
        self, caller: Caller, conversation_id: str, after: int, epoch: str
    ) -> ResumeMessagesResponse:
        """Read a page, and whether it continues what was seen."""
        async with self._reads:
            for size in PAGES:
                try:
                    return await self._upstream.resume(caller, conversation_id, after, epoch, size)
                except grpc.aio.AioRpcError as error:
                    full = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                    if not full or size == PAGES[-1]:
                        raise
        raise AssertionError("PAGES is empty")

    async def messages(self, caller: Caller, conversation_id: str, after: int) -> Sequence[Message]:
        """Read messages after a number."""
        async with self._reads:
            return await self._upstream.messages_after(caller, conversation_id, after, PAGES[-1])
