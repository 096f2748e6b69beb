"""Reads of messages, as the one who asked for them: what he may see is decided there."""

import asyncio
import time
from collections.abc import Callable, Sequence

import grpc
from interchange.message.v1.message_pb2 import Message
from interchange.message.v1.message_service_pb2 import ResumeMessagesResponse

from services.common.identity import Caller
from services.gateway.refusals import is_missing
from services.gateway.upstream import Upstream

PAGES = (500, 100)
"""Messages a page; the smaller where long ones would not fit a message of gRPC."""
READS_MAX = 64
"""Reads at the same time: all clients come back at once after a restart."""
ASSIGNED_S = 10.0
"""How long it may take until all know of an assignment that the agent knows already."""
ASSIGNED_PAUSE_S = 0.05


class Reading:
    """Reads pages of conversations; raises AioRpcError."""

    def __init__(self, upstream: Upstream, on_desk: Callable[[Caller, str], bool]) -> None:
        """`on_desk` says whether an agent was given a conversation: then it is his,
        even if not everybody knows it yet.
        """
        self._upstream = upstream
        self._on_desk = on_desk
        self._reads = asyncio.Semaphore(READS_MAX)

    async def first(
        self, caller: Caller, conversation_id: str, after: int, epoch: str
    ) -> ResumeMessagesResponse:
        """Read the first page, as one who may just have been given the conversation."""
        ends = time.monotonic() + ASSIGNED_S
        while True:
            try:
                return await self.page(caller, conversation_id, after, epoch)
            except grpc.aio.AioRpcError as error:
                late = time.monotonic() > ends
                if late or not is_missing(error) or not self._on_desk(caller, conversation_id):
                    raise
            await asyncio.sleep(ASSIGNED_PAUSE_S)

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
