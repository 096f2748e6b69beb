"""Use cases of bots, each one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass

from interchange.bot.v1 import bot_pb2

from services.bot import domain, events
from services.bot.domain import Bot, Heard, Reopening
from services.bot.events import Answer
from services.bot.repository import NOTHING_KNOWN, Bots, Known
from services.bot.turns import Turn
from services.common import pagination
from services.common.clock import BusinessClock
from services.common.errors import NotFound
from services.common.personal import Seal
from services.common.work import WorkUnits

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 100


@dataclass(frozen=True, slots=True)
class HeardTurn:
    """A turn, understood as far as it can be, and what its answer takes."""

    turn: Turn
    bot: Bot | None
    heard: Heard
    seal: Seal | None
    """Key of the customer; without it nothing is said."""


async def answer_turns(
    tenant_id: str, heard: Sequence[HeardTurn], *, uow: WorkUnits[Bots], clock: BusinessClock
) -> list[Answer]:
    """Answer turns whose lease is still ours; return what was done.

    Whoever's lease ran out has been replaced: the other one answers.
    """
    turns = [one.turn for one in heard]
    named = sorted({turn.conversation_id for turn in turns})
    async with uow.tenant(tenant_id, named) as work:
        ours = await work.repository.finish(tenant_id, turns)
        known = dict(await work.repository.contexts(tenant_id, named))
        answers, seals = [], []
        for one in heard:
            turn = one.turn
            if (turn.conversation_id, turn.sequence) not in ours:
                continue
            before = known.get(turn.conversation_id, NOTHING_KNOWN)
            decision = domain.decide(one.bot, before.context, turn.hand_off, one.heard)
            answers.append(Answer(turn, decision, before.last_sequence))
            seals.append(one.seal)
        opened = {one.turn.event_id for one in heard if isinstance(one.heard, Reopening)}
        columns, sequences = events.columns(tenant_id, answers, seals, clock.now_us())
        moved = {
            answer.turn.conversation_id: Known(
                answer.turn.bot_id, answer.decision.context, sequence
            )
            for answer, sequence in zip(answers, sequences, strict=True)
            if answer.decision.reply
            or answer.decision.reason
            or (answer.turn.event_id in opened and answer.turn.conversation_id in known)
        }
        await work.repository.store(tenant_id, moved)
        work.outbox.add(columns)
    return answers


async def drop_turns(tenant_id: str, turns: Sequence[Turn], *, uow: WorkUnits[Bots]) -> None:
    """Answer nothing: nobody could read it."""
    async with uow.tenant(tenant_id) as work:
        await work.repository.finish(tenant_id, turns)


async def put_bot(tenant_id: str, bot: bot_pb2.Bot, *, uow: WorkUnits[Bots]) -> bot_pb2.Bot:
    """Create a bot or replace it; the rules of its fields hold."""
    stored = bot_pb2.Bot()
    stored.CopyFrom(bot)
    stored.ClearField("version")
    body = stored.SerializeToString(deterministic=True)
    async with uow.tenant(tenant_id) as work:
        stored.version = await work.repository.put(tenant_id, bot.bot_id, body)
    return stored


async def get_bot(tenant_id: str, bot_id: str, *, uow: WorkUnits[Bots]) -> bot_pb2.Bot:
    """Return one bot or raise NotFound."""
    # Postgres can't hold it, so it names nothing.
    if "\0" not in bot_id:
        async with uow.reading(tenant_id) as repository:
            found = await repository.newer(tenant_id, {bot_id: 0})
        for version, body in found.values():
            return _bot(version, body or b"")
    raise NotFound("BOT_NOT_FOUND", "there is no such bot")


async def list_bots(
    tenant_id: str, page_size: int, page_token: str, *, uow: WorkUnits[Bots]
) -> tuple[list[bot_pb2.Bot], str]:
    """Return a page of bots by id and the token of the next, empty on the last."""
    filters = {"list": "bots"}
    size = pagination.page_size(page_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
    last = pagination.keyset(page_token, filters, str)
    after = "" if last is None else str(last[0])
    async with uow.reading(tenant_id) as repository:
        rows = await repository.page(tenant_id, after, size + 1)
    page = rows[:size]
    token = pagination.page_token([page[-1][0]], filters) if len(rows) > size else ""
    return [_bot(stored.version, stored.body) for _, stored in page], token


async def get_context(
    tenant_id: str, conversation_id: str, *, uow: WorkUnits[Bots]
) -> bot_pb2.BotContext:
    """Return what the bot knows of a conversation or raise NotFound."""
    name = conversation_id.lower()
    async with uow.reading(tenant_id) as repository:
        known = (await repository.contexts(tenant_id, [name])).get(name)
    if known is None or not known.bot_id:
        raise NotFound("BOT_CONTEXT_NOT_FOUND", "no bot has answered in such a conversation")
    context = known.context
    return bot_pb2.BotContext(
        conversation_id=name,
        bot_id=known.bot_id,
        misses=context.misses,
        turns=context.turns,
        last_intent=context.last_intent,
        last_confidence_millis=context.last_confidence_millis,
        handed_off=context.handed_off,
        model_version=context.model_version,
    )


def _bot(version: int, body: bytes) -> bot_pb2.Bot:
    bot = bot_pb2.Bot.FromString(body)
    bot.version = version
    return bot
