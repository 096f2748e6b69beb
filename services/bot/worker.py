"""The worker: takes turns that are due, has them understood, and answers.

The nlu service is asked outside of any transaction. Each tenant is served by tasks
of its own, so one whose model is slow makes no other wait.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog
from google.protobuf.message import DecodeError
from interchange.message.v1.message_events_pb2 import MessageBody
from interchange.nlu.v1.nlu_service_pb2 import DetectIntentRequest
from prometheus_client import Counter as Metric

from services.bot import handlers
from services.bot.bots import BotCache
from services.bot.domain import Bot, Heard, Nothing, Reopening, Silence, Unheard
from services.bot.events import Answer
from services.bot.handlers import HeardTurn
from services.bot.repository import Bots
from services.bot.turns import Queue, Turn
from services.bot.understanding import Understanding
from services.common import telemetry
from services.common.clock import BusinessClock
from services.common.handling import TRANSIENT
from services.common.personal import Keys, Seal, Unreadable
from services.common.work import WorkUnits

log = structlog.get_logger()

TURNS = Metric("bot_turns_total", "Turns of customers", ["outcome"])

UTTERANCE_LENGTH_MAX = 1_000
TASKS_MAX = 16
TENANT_TASKS_MAX = 2
CROWD = 8
"""Turns in a batch from which on the next one gathers."""
GATHER_S = 0.006
LEAVE_S = 3.0
"""How long a stopping worker finishes what it has begun; a lease returns the rest."""
GIVE_UP_AFTER = 2
"""Attempts beyond those for the nlu, after which a turn that nobody gets through is
handed over unread."""
PAUSE_MS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a text is tried to be understood, and the first pause; the next are longer."""

    attempts_max: int
    pause_ms: int

    def pause_after(self, attempts: int) -> int:
        """Return the pause after so many attempts, in milliseconds."""
        return min(self.pause_ms << (attempts - 1), PAUSE_MS_MAX)

    def is_over(self, attempts: int) -> bool:
        """Tell whether a turn was tried in vain so often that nobody shall read it any more."""
        return attempts > self.attempts_max + GIVE_UP_AFTER


@dataclass(frozen=True, slots=True)
class _Read:
    """A turn that was opened."""

    turn: Turn
    bot: Bot | None
    seal: Seal
    text: str | None
    """Empty where it has none, None where nobody can read it."""


class Worker:
    """Answers turns of all tenants, in this process."""

    def __init__(
        self,
        queue: Queue,
        uow: WorkUnits[Bots],
        understanding: Understanding,
        keys: Keys,
        clock: BusinessClock,
        patience: Patience,
        poll_ms: int,
    ) -> None:
        self._queue = queue
        self._uow = uow
        self._bots = BotCache(uow)
        self._understanding = understanding
        self._keys = keys
        self._clock = clock
        self._patience = patience
        self._poll_s = poll_ms / 1000
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy: Counter[str] = Counter()

    def wake(self) -> None:
        """Look at once: turns were queued here."""
        self._wake.set()

    async def run(self) -> None:
        """Answer until cancelled, then finish what was begun."""
        try:
            while True:
                self._wake.clear()
                try:
                    claimed = await self._claim()
                except TRANSIENT as error:
                    log.warning("turns not taken", error=repr(error))
                    claimed = 0
                await self._rest(claimed)
        finally:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=LEAVE_S)
            for task in self._tasks:
                task.cancel()

    async def _rest(self, claimed: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._poll_s):
                await self._wake.wait()
        if claimed >= CROWD:
            await asyncio.sleep(GATHER_S)

    async def _claim(self) -> int:
        """Take what is due and begin to answer it; return how many turns that were."""
        free = TASKS_MAX - len(self._tasks)
        if free <= 0:
            return 0
        busy = [tenant for tenant, count in self._busy.items() if count >= TENANT_TASKS_MAX]
        claimed = await self._queue.claim(busy, free)
        for tenant_id, turns in claimed.items():
            self._busy[tenant_id] += 1
            task = asyncio.create_task(self._serve(tenant_id, turns))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return sum(map(len, claimed.values()))

    async def _serve(self, tenant_id: str, turns: Sequence[Turn]) -> None:
        try:
            await self._settle(tenant_id, turns)
        except TRANSIENT as error:
            # They are taken again when their lease has run out.
            log.warning("turns not answered", tenant=tenant_id, error=repr(error))
        finally:
            self._busy[tenant_id] -= 1
            if not self._busy[tenant_id]:
                del self._busy[tenant_id]
            # The next turns of these conversations can be taken now.
            self._wake.set()

    async def _settle(self, tenant_id: str, turns: Sequence[Turn]) -> None:
        """Answer turns; one that can't be answered takes no other along."""
        try:
            await self._answer(tenant_id, turns)
        except TRANSIENT:
            raise
        except Exception:
            if len(turns) == 1:
                log.exception("turn failed", tenant=tenant_id, id=turns[0].event_id)
                await self._postpone(tenant_id, turns)
                return
            middle = len(turns) // 2
            await self._settle(tenant_id, turns[:middle])
            await self._settle(tenant_id, turns[middle:])

    async def _answer(self, tenant_id: str, turns: Sequence[Turn]) -> None:
        bots = await self._bots.of(tenant_id, {turn.bot_id for turn in turns})
        over = [turn for turn in turns if self._patience.is_over(turn.attempts)]
        unread = [HeardTurn(turn, bots.get(turn.bot_id), Unheard(), None) for turn in over]
        fresh = [turn for turn in turns if not self._patience.is_over(turn.attempts)]
        read = await self._read(tenant_id, fresh, bots)
        heard, late = await self._hear(tenant_id, read)
        heard += unread
        if late:
            await self._postpone(tenant_id, late)
        if heard:
            # Of the traces that meet here one is followed on.
            trace = next((one.turn.traceparent for one in heard if one.turn.traceparent), None)
            with telemetry.span_from(trace, "bot answer"):
                answers = await handlers.answer_turns(
                    tenant_id, heard, uow=self._uow, clock=self._clock
                )
            _count(answers)

    async def _postpone(self, tenant_id: str, turns: Sequence[Turn]) -> None:
        pauses = [self._patience.pause_after(turn.attempts) for turn in turns]
        await self._queue.postpone(tenant_id, turns, pauses)
        TURNS.labels("postponed").inc(len(turns))

    async def _read(
        self, tenant_id: str, turns: Sequence[Turn], bots: Mapping[str, Bot]
    ) -> list[_Read]:
        """Open turns; drop those whose customer's key was destroyed."""
        if not turns:
            return []
        seals = await self._keys.of(tenant_id, {turn.customer_id for turn in turns})
        read, lost = [], []
        for turn in turns:
            seal = seals.get(turn.customer_id)
            if seal is None:
                lost.append(turn)
            else:
                read.append(_Read(turn, bots.get(turn.bot_id), seal, _text(turn, seal)))
        if lost:
            await handlers.drop_turns(tenant_id, lost, uow=self._uow)
            TURNS.labels("dropped").inc(len(lost))
        return read

    async def _hear(
        self, tenant_id: str, read: Sequence[_Read]
    ) -> tuple[list[HeardTurn], list[Turn]]:
        """Have texts understood; return what can be answered, and what is tried again."""
        asked, requests = [], []
        for one in read:
            if one.bot is not None and one.text:
                asked.append(one)
                requests.append(_request(one.turn, one.bot, one.text))
        found = await self._understanding.detect(tenant_id, requests) if requests else ()
        detections = {
            one.turn.event_id: detection for one, detection in zip(asked, found, strict=True)
        }
        heard, late = [], []
        for one in read:
            what = detections.get(one.turn.event_id) or self._unasked(one)
            if what is None:
                late.append(one.turn)
            else:
                heard.append(HeardTurn(one.turn, one.bot, what, one.seal))
        return heard, late

    def _unasked(self, one: _Read) -> Heard | None:
        """Return what is known of a turn without the nlu; None when it is to be tried again."""
        if one.turn.reopens:
            return Reopening()
        if one.bot is None or not one.turn.sequence:
            return Silence()
        if one.text == "":
            return Nothing()
        last = one.turn.attempts >= self._patience.attempts_max
        return Unheard() if one.text is None or last else None


def _request(turn: Turn, bot: Bot, text: str) -> DetectIntentRequest:
    return DetectIntentRequest(
        # More is not read there, and 256 long ones would not fit into one message.
        model_id=bot.model_id,
        text=text[:UTTERANCE_LENGTH_MAX],
        conversation_id=turn.conversation_id,
    )


def _text(turn: Turn, seal: Seal) -> str | None:
    """Return the text of a turn, empty where it has none, None where nobody can read it."""
    if not turn.sealed_body:
        return ""
    try:
        return MessageBody.FromString(seal.open(turn.sealed_body, turn.conversation_id)).text
    except (Unreadable, DecodeError) as error:
        log.error("turn unreadable", tenant=turn.tenant_id, id=turn.event_id, error=str(error))
        return None


def _count(answers: Sequence[Answer]) -> None:
    for answer in answers:
        decision = answer.decision
        outcome = "hand_off" if decision.reason else "reply" if decision.reply else "nothing"
        TURNS.labels(outcome).inc()
