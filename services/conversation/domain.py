"""The life of a conversation: who is to answer, and which step may follow.

    start ──► WITH_BOT ──hand off──► QUEUED ──assign──► WITH_AGENT
      └──────────────────────────────►▲  ▲──transfer, agent gone──┘
    each but ENDED ──end──► ENDED ──reopen──► WITH_BOT or QUEUED

A step is an event. A start or a reopening that goes to the queue is two.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from interchange.conversation.v1 import conversation_pb2 as pb

from services.common.errors import FailedPrecondition
from services.conversation import needs as needing

WITH_BOT, QUEUED = pb.STATUS_WITH_BOT, pb.STATUS_QUEUED
WITH_AGENT, ENDED = pb.STATUS_WITH_AGENT, pb.STATUS_ENDED

BOT_ACTOR = "bot"
MESH_ACTOR = "mesh"


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as it is stored; times are microseconds since 1970 UTC."""

    conversation_id: str
    customer_id: str
    customer_name: str
    channel: pb.Channel.ValueType
    status: pb.Status.ValueType
    bot_id: str
    agent_id: str
    """Who answers; once it ended, who answered last."""
    hand_off_count: int
    hand_off_reason: pb.HandOffReason.ValueType
    needs: bytes
    """Of the last hand-over; empty when there was none."""
    start_needs: bytes
    end_reason: pb.EndReason.ValueType
    start_us: int
    hand_off_us: int
    end_us: int
    version: int

    @property
    def duration_ms(self) -> int:
        """From start to end; zero while it lasts, and where the clock went back."""
        return max(0, self.end_us - self.start_us) // 1000


class Kind(Enum):
    """What happened."""

    STARTED = auto()
    HANDED_OFF = auto()
    ASSIGNED = auto()
    ENDED = auto()
    REOPENED = auto()


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened, and the conversation after it."""

    kind: Kind
    after: Conversation
    at_us: int
    actor: str = MESH_ACTOR
    previous_agent_id: str = ""
    agent_name: str = ""


def start(new: Conversation, actor: str) -> list[Step]:
    """Return the steps by which a conversation comes to be, with the bot or queued.

    `new` has version 0.
    """
    first = Step(Kind.STARTED, replace(new, version=1), new.start_us, actor)
    return _routed(first, actor)


def hand_off(
    conversation: Conversation, needs: bytes | None, actor: str, now_us: int
) -> list[Step]:
    """Return the step from the bot to the queue, asked for by a person."""
    if conversation.status == QUEUED:
        raise refused(conversation, "ALREADY_QUEUED", "waits for an agent already")
    if conversation.status == WITH_AGENT:
        raise refused(conversation, "ALREADY_WITH_AGENT", "is with an agent already")
    _lasting(conversation)
    wanted = conversation.start_needs if needs is None else needs
    return [_queued(conversation, pb.HAND_OFF_REASON_REQUESTED, wanted, actor, now_us)]


def transfer(
    conversation: Conversation, needs: bytes | None, actor: str, now_us: int
) -> list[Step]:
    """Return the step from one agent to the queue, for another one."""
    _lasting(conversation)
    if conversation.status != WITH_AGENT:
        raise refused(conversation, "NOT_WITH_AGENT", "is not with an agent")
    if needs is None:
        needs = needing.again(conversation.needs, conversation.start_needs)
    wanted = needing.without(needs, conversation.agent_id)
    return [_queued(conversation, pb.HAND_OFF_REASON_TRANSFER, wanted, actor, now_us)]


def end(
    conversation: Conversation, reason: pb.EndReason.ValueType, actor: str, now_us: int
) -> list[Step]:
    """Return the step to the end."""
    _lasting(conversation)
    after = replace(
        conversation,
        status=ENDED,
        end_reason=reason,
        end_us=now_us,
        version=conversation.version + 1,
    )
    return [Step(Kind.ENDED, after, now_us, actor)]


def reopen(
    conversation: Conversation, status: pb.Status.ValueType, actor: str, now_us: int
) -> list[Step]:
    """Return the steps from the end back to the bot or the queue."""
    if conversation.status != ENDED:
        raise refused(conversation, "CONVERSATION_NOT_ENDED", "has not ended")
    after = replace(
        conversation,
        status=status,
        agent_id="",
        end_reason=pb.END_REASON_UNSPECIFIED,
        end_us=0,
        version=conversation.version + 1,
    )
    first = Step(Kind.REOPENED, after, now_us, actor, conversation.agent_id)
    return _routed(first, actor)


def requested_by_bot(
    conversation: Conversation,
    hand_off_count: int,
    reason: pb.HandOffReason.ValueType,
    needs: bytes | None,
    now_us: int,
) -> list[Step]:
    """Return the hand-over that the bot asked for; none when it moved on meanwhile."""
    if conversation.status != WITH_BOT or conversation.hand_off_count != hand_off_count:
        return []
    wanted = conversation.start_needs if needs is None else needs
    return [_queued(conversation, reason, wanted, BOT_ACTOR, now_us)]


def matched(
    conversation: Conversation, hand_off_count: int, agent_id: str, agent_name: str, now_us: int
) -> list[Step]:
    """Return the step to the agent who accepted; none when it moved on meanwhile."""
    if conversation.status != QUEUED or conversation.hand_off_count != hand_off_count:
        return []
    after = replace(
        conversation, status=WITH_AGENT, agent_id=agent_id, version=conversation.version + 1
    )
    return [Step(Kind.ASSIGNED, after, now_us, agent_name=agent_name)]


def agent_gone(
    conversation: Conversation, hand_off_count: int, agent_id: str, now_us: int
) -> list[Step]:
    """Return the step back to the queue; none when the agent has handed it on meanwhile."""
    current = (conversation.status, conversation.hand_off_count, conversation.agent_id)
    if current != (WITH_AGENT, hand_off_count, agent_id):
        return []
    reason = pb.HAND_OFF_REASON_AGENT_GONE
    return [_queued(conversation, reason, conversation.needs, MESH_ACTOR, now_us)]


def refused(conversation: Conversation, reason: str, text: str) -> FailedPrecondition:
    """Return the error of a step that may not follow."""
    return FailedPrecondition(
        reason,
        f"the conversation {text}",
        metadata={
            "conversation_id": conversation.conversation_id,
            "status": pb.Status.Name(conversation.status),
        },
    )


def _lasting(conversation: Conversation) -> None:
    if conversation.status == ENDED:
        raise refused(conversation, "CONVERSATION_ENDED", "has ended")


def _routed(first: Step, actor: str) -> list[Step]:
    """Return the first step, and the hand-over that follows it into the queue."""
    after = first.after
    if after.status != QUEUED:
        return [first]
    reason = pb.HAND_OFF_REASON_REQUESTED
    step = _queued(after, reason, after.start_needs, actor, first.at_us)
    return [first, replace(step, previous_agent_id=first.previous_agent_id)]


def _queued(
    conversation: Conversation,
    reason: pb.HandOffReason.ValueType,
    needs: bytes,
    actor: str,
    now_us: int,
) -> Step:
    after = replace(
        conversation,
        status=QUEUED,
        agent_id="",
        hand_off_count=conversation.hand_off_count + 1,
        hand_off_reason=reason,
        needs=needs,
        hand_off_us=now_us,
        version=conversation.version + 1,
    )
    return Step(Kind.HANDED_OFF, after, now_us, actor, conversation.agent_id)


def last(steps: Sequence[Step]) -> Conversation:
    """Return the conversation after all steps."""
    return steps[-1].after
