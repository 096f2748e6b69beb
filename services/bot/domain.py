"""What a bot does: a turn of the customer in, a reply and perhaps a hand-over out."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from interchange.bot.v1 import bot_pb2
from interchange.conversation.v1 import conversation_pb2
from interchange.conversation.v1.conversation_pb2 import Needs

THRESHOLD_DEFAULT = 500
MISSES_DEFAULT = 2

Reason: TypeAlias = "conversation_pb2.HandOffReason.ValueType"


@dataclass(frozen=True, slots=True)
class Intent:
    """What a bot does when it recognises an intent."""

    replies: tuple[str, ...]
    hand_off: bool
    needs: Needs | None


@dataclass(frozen=True, slots=True)
class Bot:
    """A bot as it decides: what was left out is filled in."""

    bot_id: str
    model_id: str
    greeting: str
    fallback_reply: str
    hand_off_reply: str
    threshold_millis: int
    misses_max: int
    hand_off_intent: str
    intents: Mapping[str, Intent]

    @classmethod
    def of(cls, message: bot_pb2.Bot) -> "Bot":
        """Return the bot that a tenant described."""
        return cls(
            message.bot_id,
            message.model_id or message.bot_id,
            message.greeting,
            message.fallback_reply,
            message.hand_off_reply,
            message.threshold_millis or THRESHOLD_DEFAULT,
            message.misses_max or MISSES_DEFAULT,
            message.hand_off_intent,
            {
                one.name: Intent(
                    tuple(one.replies), one.hand_off, one.needs if one.HasField("needs") else None
                )
                for one in message.intents
            },
        )


@dataclass(frozen=True, slots=True)
class Context:
    """What a bot knows of a conversation in one stint: from a start or reopening to a hand-over.

    Flows will keep here where they are: the flow, its step and its slots.
    """

    hand_off: int = 0
    """How often the conversation had been handed to agents: the number of the stint."""
    closed: int = 0
    """Stints below this one are over."""
    misses: int = 0
    turns: int = 0
    last_intent: str = ""
    last_confidence_millis: int = 0
    handed_off: bool = False
    model_version: int = 0
    uses: Mapping[str, int] = field(default_factory=dict)
    """How often each intent was answered."""


@dataclass(frozen=True, slots=True)
class Detection:
    """What a turn means, as far as that is known."""

    intent: str
    confidence_millis: int
    model_version: int


@dataclass(frozen=True, slots=True)
class Nothing:
    """A turn without a text: an attachment."""


@dataclass(frozen=True, slots=True)
class Silence:
    """A conversation that began without a message."""


@dataclass(frozen=True, slots=True)
class Unheard:
    """A text that nobody could be found to understand, several times."""


@dataclass(frozen=True, slots=True)
class Reopening:
    """A conversation that was opened again with the bot: a stint begins.

    It may have the number of the one before, which ended without a hand-over.
    """


Heard = Detection | Nothing | Silence | Unheard | Reopening


@dataclass(frozen=True, slots=True)
class Decision:
    """What a bot does in a turn; without a reply and a reason it does nothing."""

    context: Context
    reply: str = ""
    reason: Reason = conversation_pb2.HAND_OFF_REASON_UNSPECIFIED
    """Why it hands over; unspecified when it does not."""
    needs: Needs | None = None
    """What the agent needs; as given at the start when None."""
    detection: Detection | None = None
    """What was recognised."""


def decide(bot: Bot | None, context: Context, hand_off: int, turn: Heard) -> Decision:
    """Return what a bot does in a turn of the stint `hand_off`.

    Nothing in a stint that is over: what comes after a hand-over is for agents.
    """
    if hand_off < context.closed or hand_off < context.hand_off:
        return Decision(context)
    if hand_off > context.hand_off or isinstance(turn, Reopening):
        context = Context(hand_off, context.closed)
    if context.handed_off:
        return Decision(context)
    if bot is None:
        return _handing_over(context, conversation_pb2.HAND_OFF_REASON_NO_BOT, "")
    if isinstance(turn, Reopening):
        return Decision(context)
    if isinstance(turn, Silence):
        return Decision(context, "" if context.turns else bot.greeting)
    context = replace(context, turns=context.turns + 1)
    if isinstance(turn, Unheard):
        reply = bot.fallback_reply or bot.hand_off_reply
        return _handing_over(context, conversation_pb2.HAND_OFF_REASON_LOW_CONFIDENCE, reply)
    # A flow would take the turn here, before intents do: it fills a slot, runs an
    # action, moves to its next step, and lets go of what it can't use.
    if isinstance(turn, Detection) and turn.confidence_millis >= bot.threshold_millis:
        context = replace(context, model_version=turn.model_version)
        if turn.intent in bot.intents or (turn.intent and turn.intent == bot.hand_off_intent):
            return _recognised(bot, context, turn)
    return _missed(bot, context, turn)


def _recognised(bot: Bot, context: Context, turn: Detection) -> Decision:
    intent = bot.intents.get(turn.intent, Intent((), True, None))
    used = context.uses.get(turn.intent, 0)
    reply = intent.replies[used % len(intent.replies)] if intent.replies else ""
    context = replace(
        context,
        misses=0,
        last_intent=turn.intent,
        last_confidence_millis=turn.confidence_millis,
        uses={**context.uses, turn.intent: used + 1},
    )
    asked = turn.intent == bot.hand_off_intent
    if not asked and not intent.hand_off:
        return Decision(context, reply, detection=turn)
    reason = (
        conversation_pb2.HAND_OFF_REASON_REQUESTED
        if asked
        else conversation_pb2.HAND_OFF_REASON_INTENT
    )
    decision = _handing_over(context, reason, reply or bot.hand_off_reply, intent.needs)
    return replace(decision, detection=turn)


def _missed(bot: Bot, context: Context, turn: Heard) -> Decision:
    context = replace(context, misses=context.misses + 1)
    if context.misses < bot.misses_max and bot.fallback_reply:
        return Decision(context, bot.fallback_reply)
    # One miss is not several in a row.
    reason = (
        conversation_pb2.HAND_OFF_REASON_LOW_CONFIDENCE
        if context.misses == 1
        else conversation_pb2.HAND_OFF_REASON_REPEATED_MISSES
    )
    return _handing_over(context, reason, bot.hand_off_reply or bot.fallback_reply)


def _handing_over(
    context: Context, reason: Reason, reply: str, needs: Needs | None = None
) -> Decision:
    return Decision(replace(context, handed_off=True), reply, reason, needs)
