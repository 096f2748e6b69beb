"""Marks of readers: only the furthest of a moment goes on its way."""

import asyncio
from contextvars import Context

import structlog
from interchange.message.v1.message_pb2 import Mark, Sender
from interchange.message.v1.message_service_pb2 import ReaderMark

from services.common.config import Settings
from services.gateway.refusals import refusal
from services.gateway.upstream import Upstream

BATCH_MAX = 1_000
WAITING_MAX = 20_000
"""Marks of one tenant that wait, at most; those that come then are lost: later ones say more."""
log = structlog.get_logger()


class MarkSink:
    """Gathers marks by conversation and reader, and submits them every quarter of a second."""

    def __init__(self, upstream: Upstream, settings: Settings) -> None:
        self._upstream = upstream
        self._period_s = settings.gateway_marks_flush_ms / 1000
        self._waiting: dict[str, dict[tuple[str, str], Mark]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def add(
        self, tenant_id: str, conversation_id: str, reader: Sender, delivered: int, read: int
    ) -> None:
        """Take how far a reader is."""
        waiting = self._waiting.setdefault(tenant_id, {})
        mark = waiting.get((conversation_id, reader.id))
        if mark is None:
            if len(waiting) >= WAITING_MAX:
                return
            mark = waiting[conversation_id, reader.id] = Mark(reader=reader)
        mark.read_sequence = max(mark.read_sequence, read)
        mark.delivered_sequence = max(mark.delivered_sequence, delivered, read)
        if tenant_id not in self._tasks:
            task = asyncio.create_task(self._run(tenant_id), context=Context())
            self._tasks[tenant_id] = task

    async def settled(self, timeout_s: float) -> None:
        """Wait until nothing waits, or until the time is over."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=timeout_s)

    async def _run(self, tenant_id: str) -> None:
        try:
            while self._waiting[tenant_id]:
                await asyncio.sleep(self._period_s)
                taken, self._waiting[tenant_id] = self._waiting[tenant_id], {}
                marks = [
                    ReaderMark(conversation_id=conversation_id, mark=mark)
                    for (conversation_id, _), mark in taken.items()
                ]
                for start in range(0, len(marks), BATCH_MAX):
                    await self._submit(tenant_id, marks[start : start + BATCH_MAX])
        finally:
            del self._tasks[tenant_id], self._waiting[tenant_id]

    async def _submit(self, tenant_id: str, marks: list[ReaderMark]) -> None:
        try:
            await self._upstream.submit_marks(tenant_id, marks)
        except Exception as error:
            # A client marks again with its next message; nothing waits for a mark.
            log.warning("marks were not stored", count=len(marks), reason=refusal(error).reason)
