"""Messages of the services, as frames; and fields of frames, as messages of the services."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp
from interchange.agent.v1 import agent_pb2
from interchange.conversation.v1 import conversation_pb2
from interchange.message.v1 import message_pb2

from services.common.identity import AGENT, Caller
from services.gateway import fields, frames_out
from services.gateway.frames_out import MarkOf, OfferOf, Sender, SystemNote

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SENDER_KINDS: dict[int, frames_out.SenderKindName] = {
    message_pb2.SENDER_KIND_CUSTOMER: "customer",
    message_pb2.SENDER_KIND_AGENT: "agent",
    message_pb2.SENDER_KIND_BOT: "bot",
}
SYSTEM_KINDS: dict[int, frames_out.SystemKindName] = {
    message_pb2.SYSTEM_KIND_QUEUED: "queued",
    message_pb2.SYSTEM_KIND_AGENT_JOINED: "agent_joined",
    message_pb2.SYSTEM_KIND_REOPENED: "reopened",
}
AGENT_STATUSES: dict[int, frames_out.AgentStatusName] = {
    agent_pb2.AGENT_STATUS_ONLINE: "online",
    agent_pb2.AGENT_STATUS_AWAY: "away",
    agent_pb2.AGENT_STATUS_NOT_RESPONDING: "not_responding",
}


def message(of: message_pb2.Message) -> frames_out.Message:
    """Return the frame of a message."""
    frame = frames_out.Message(
        of.conversation_id,
        of.sequence,
        of.message_id,
        sender(of.sender),
        moment(of.create_time),
        of.client_message_id,
    )
    content = of.WhichOneof("content")
    if content == "attachment":
        it = of.attachment
        frame.attachment = fields.Attachment(it.uri, it.media_type, it.name, it.size_bytes)
    elif content == "system":
        frame.system = system_note(of.system)
    else:
        frame.text = of.text
    return frame


def system_note(of: message_pb2.SystemNote) -> SystemNote:
    """Return a message of the platform."""
    kind = SYSTEM_KINDS.get(of.kind, "ended")
    return SystemNote(kind, of.agent_id, of.agent_name, of.reason)


def sender(of: message_pb2.Sender) -> Sender:
    """Return a sender or reader."""
    return Sender(SENDER_KINDS.get(of.kind, "system"), of.id)


def mark(of: message_pb2.Mark) -> MarkOf:
    """Return how far a reader is."""
    return MarkOf(sender(of.reader), of.delivered_sequence, of.read_sequence)


def desk(of: agent_pb2.Desk) -> frames_out.Desk:
    """Return the frame of a desk."""
    return frames_out.Desk(
        of.agent_id,
        AGENT_STATUSES.get(of.status, "offline"),
        tuple(_offer(each) for each in of.offers),
        tuple(of.conversation_ids),
        of.version,
    )


def _offer(of: agent_pb2.Offer) -> OfferOf:
    return OfferOf(
        of.offer_id,
        of.conversation_id,
        of.customer_id,
        _name(conversation_pb2.Channel, of.channel, "CHANNEL_"),
        _name(conversation_pb2.HandOffReason, of.reason, "HAND_OFF_REASON_"),
        of.hand_off,
        moment(of.expire_time) if of.HasField("expire_time") else None,
    )


def status(of: conversation_pb2.Conversation) -> str:
    """Return who is to answer, in lower case."""
    return _name(conversation_pb2.Status, of.status, "STATUS_")


def moment(of: Timestamp) -> datetime:
    """Return a time to the microsecond."""
    return _EPOCH + timedelta(seconds=of.seconds, microseconds=of.nanos // 1000)


def _name(enum: object, value: int, prefix: str) -> str:
    names: Iterable[tuple[str, int]] = enum.items()  # type: ignore[attr-defined]
    known = {number: name for name, number in names}
    return known.get(value, "").removeprefix(prefix).lower()


def channel(name: fields.ChannelName) -> conversation_pb2.Channel.ValueType:
    """Return a channel by its name."""
    return conversation_pb2.Channel.Value(f"CHANNEL_{name.upper()}")


def end_reason(name: fields.EndReasonName) -> conversation_pb2.EndReason.ValueType:
    """Return why a conversation ends."""
    return conversation_pb2.EndReason.Value(f"END_REASON_{name.upper()}")


def agent_status(name: fields.StatusName) -> agent_pb2.AgentStatus.ValueType:
    """Return whether an agent takes conversations."""
    return agent_pb2.AgentStatus.Value(f"AGENT_STATUS_{name.upper()}")


def needs(of: fields.Needs | None) -> conversation_pb2.Needs | None:
    """Return what a conversation needs of its agent."""
    if of is None:
        return None
    return conversation_pb2.Needs(
        pool_id=of.pool_id,
        required_skills=[_skill(each) for each in of.required_skills],
        wished_skills=[_skill(each) for each in of.wished_skills],
        priority=of.priority,
        preferred_agent_id=of.preferred_agent_id,
        preferred_only=of.preferred_only,
        excluded_agent_ids=of.excluded_agent_ids,
    )


def _skill(of: fields.Skill) -> conversation_pb2.Skill:
    return conversation_pb2.Skill(name=of.name, level=of.level)


def attachment(of: fields.Attachment) -> message_pb2.Attachment:
    """Return a reference to a file."""
    return message_pb2.Attachment(
        uri=of.uri, media_type=of.media_type, name=of.name, size_bytes=of.size_bytes
    )


def as_sender(caller: Caller, customer_id: str = "") -> message_pb2.Sender:
    """Return what a caller is in a conversation: its customer, or its agent."""
    customer = AGENT not in caller.roles or caller.subject == customer_id
    kind = message_pb2.SENDER_KIND_CUSTOMER if customer else message_pb2.SENDER_KIND_AGENT
    return message_pb2.Sender(kind=kind, id=caller.subject)
