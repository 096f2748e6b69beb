"""Decisions to protobuf: events whose ids follow from what they answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from uuid import UUID

from interchange.bot.v1.bot_events_pb2 import BotReplied, HandoffRequested

from services.bot.domain import Decision
from services.bot.turns import Turn
from services.common.events import EventColumns
from services.common.personal import Seal

TOPIC = "bot-events"
REPLY = "reply"
HAND_OFF = "hand-off"


@dataclass(frozen=True, slots=True)
class Answer:
    """A turn, what the bot does in it, and the number of the event before."""

    turn: Turn
    decision: Decision
    last_sequence: int


def answer_id(answered: str, what: str) -> str:
    """Return the id of an answer: the same whenever, and by whomever, it is made.

    It is a UUIDv7 of the time of what it answers, so that it lies where the message
    that it becomes is looked for; the rest is a hash, as in version 5.
    """
    source = UUID(answered)
    digest = blake2b(source.bytes + what.encode(), digest_size=10).digest()
    rest = int.from_bytes(digest, "big")
    number = (source.int >> 80) << 80 | rest
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return str(UUID(int=number))


def columns(
    tenant_id: str, answers: Sequence[Answer], seals: Sequence[Seal | None], now_us: int
) -> tuple[EventColumns, list[int]]:
    """Return the events of answers, and the number of the last event after each of them."""
    found = EventColumns(tenant_id, TOPIC)
    last_sequences = []
    for answer, seal in zip(answers, seals, strict=True):
        sequence = answer.last_sequence
        for message in _messages(answer, seal, now_us):
            sequence += 1
            found.extend(
                message.DESCRIPTOR.full_name,
                1,
                [message.event_id],
                [answer.turn.conversation_id],
                [sequence],
                [message.SerializeToString()],
            )
        last_sequences.append(sequence)
    return found, last_sequences


def _messages(
    answer: Answer, seal: Seal | None, now_us: int
) -> list[BotReplied | HandoffRequested]:
    messages: list[BotReplied | HandoffRequested] = []
    if answer.decision.reply and seal is not None:
        messages.append(_replied(answer, seal, now_us))
    if answer.decision.reason:
        messages.append(_requested(answer, now_us))
    return messages


def _replied(answer: Answer, seal: Seal, now_us: int) -> BotReplied:
    turn, detection = answer.turn, answer.decision.detection
    message = BotReplied(
        event_id=answer_id(turn.event_id, REPLY),
        conversation_id=turn.conversation_id,
        customer_id=turn.customer_id,
        bot_id=turn.bot_id,
        sealed_text=seal.seal(answer.decision.reply.encode(), turn.conversation_id),
        answered_sequence=turn.sequence,
        recorded_us=now_us,
    )
    if detection is not None:
        message.intent = detection.intent
        message.confidence_millis = detection.confidence_millis
        message.model_version = detection.model_version
    return message


def _requested(answer: Answer, now_us: int) -> HandoffRequested:
    turn, decision = answer.turn, answer.decision
    return HandoffRequested(
        event_id=answer_id(turn.event_id, HAND_OFF),
        conversation_id=turn.conversation_id,
        bot_id=turn.bot_id,
        reason=decision.reason,
        needs=decision.needs,
        hand_off=turn.hand_off,
        recorded_us=now_us,
    )
