"""The life of a conversation under any steps: laws that hold whatever is asked, and when."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interchange.conversation.v1 import conversation_pb2 as pb

from services.common.errors import FailedPrecondition, InvalidArgument
from services.conversation import domain
from services.conversation import needs as needing
from services.conversation.domain import (
    ENDED,
    QUEUED,
    WITH_AGENT,
    WITH_BOT,
    Conversation,
    Kind,
    Step,
)

AGENTS = ("ana", "ben", "cem")

START = Conversation(
    conversation_id="c",
    customer_id="cleo",
    customer_name="",
    channel=pb.CHANNEL_WEB,
    status=WITH_BOT,
    bot_id="default",
    agent_id="",
    hand_off_count=0,
    hand_off_reason=pb.HAND_OFF_REASON_UNSPECIFIED,
    needs=b"",
    start_needs=needing.NONE,
    end_reason=pb.END_REASON_UNSPECIFIED,
    start_us=1_000_000,
    hand_off_us=0,
    end_us=0,
    version=0,
)
REFUSALS = {
    "hand_off": {
        QUEUED: "ALREADY_QUEUED",
        WITH_AGENT: "ALREADY_WITH_AGENT",
        ENDED: "CONVERSATION_ENDED",
    },
    "transfer": {
        WITH_BOT: "NOT_WITH_AGENT",
        QUEUED: "NOT_WITH_AGENT",
        ENDED: "CONVERSATION_ENDED",
    },
    "end": {ENDED: "CONVERSATION_ENDED"},
    "reopen": dict.fromkeys((WITH_BOT, QUEUED, WITH_AGENT), "CONVERSATION_NOT_ENDED"),
}
"""Why each step that a caller asks for is refused, by status; all others are taken."""


@dataclass(frozen=True)
class Ask:
    """Something that is asked for: of which hand-over, by whom, with which needs."""

    what: str
    late: int
    agent_id: str
    status: pb.Status.ValueType
    needs: bytes | None


asks = st.builds(
    Ask,
    what=st.sampled_from([*REFUSALS, "requested_by_bot", "matched", "agent_gone"]),
    late=st.integers(0, 2),
    agent_id=st.sampled_from(AGENTS),
    status=st.sampled_from([WITH_BOT, QUEUED]),
    needs=st.sampled_from([None, needing.NONE, needing.stored(pb.Needs(pool_id="vip"))]),
)


def taken(one: Conversation, ask: Ask, now_us: int) -> list[Step]:
    hand_off = one.hand_off_count - ask.late
    match ask.what:
        case "hand_off":
            return domain.hand_off(one, ask.needs, "cleo", now_us)
        case "transfer":
            return domain.transfer(one, ask.needs, "sue", now_us)
        case "end":
            return domain.end(one, pb.END_REASON_RESOLVED, "cleo", now_us)
        case "reopen":
            return domain.reopen(one, ask.status, "cleo", now_us)
        case "requested_by_bot":
            reason = pb.HAND_OFF_REASON_INTENT
            return domain.requested_by_bot(one, hand_off, reason, ask.needs, now_us)
        case "matched":
            return domain.matched(one, hand_off, ask.agent_id, "Name", now_us)
        case _:
            return domain.agent_gone(one, hand_off, ask.agent_id, now_us)


def check(before: Conversation, steps: list[Step]) -> None:
    for step in steps:
        after = step.after
        assert after.version == before.version + 1
        assert after.hand_off_count == before.hand_off_count + (step.kind is Kind.HANDED_OFF)
        assert (after.status == WITH_AGENT) <= bool(after.agent_id)
        assert not (after.status in (WITH_BOT, QUEUED) and after.agent_id)
        assert (after.status == ENDED) == (after.end_us > 0) == (after.end_reason > 0)
        assert after.duration_ms == 0 or after.status == ENDED
        same = (before.conversation_id, before.customer_id, before.start_us, before.start_needs)
        assert same == (after.conversation_id, after.customer_id, after.start_us, after.start_needs)
        if step.kind is Kind.HANDED_OFF:
            assert after.status == QUEUED
            assert pb.Needs.FromString(after.needs).pool_id
        before = after
    # Whoever reads the last event knows the status: a queued one was handed over.
    if steps and steps[-1].after.status == QUEUED:
        assert steps[-1].kind is Kind.HANDED_OFF


@given(st.sampled_from([WITH_BOT, QUEUED]), st.lists(asks, max_size=30), st.integers(-5, 5))
def test_any_steps_keep_a_conversation_whole(
    status: pb.Status.ValueType, asked: list[Ask], pace_us: int
) -> None:
    """Whatever is asked, in any order, early or late, and with a clock that may go back."""
    steps = domain.start(replace(START, status=status), "cleo")
    check(replace(START, status=status), steps)
    one, now_us = domain.last(steps), START.start_us
    for ask in asked:
        now_us += pace_us
        refusal = REFUSALS.get(ask.what, {}).get(one.status)
        if refusal is not None:
            with pytest.raises(FailedPrecondition) as caught:
                taken(one, ask, now_us)
            assert caught.value.reason == refusal
            assert caught.value.metadata["status"] == pb.Status.Name(one.status)
            continue
        steps = taken(one, ask, now_us)
        if ask.what in REFUSALS:
            assert steps
        check(one, steps)
        one = domain.last(steps) if steps else one


@given(st.lists(asks, max_size=20), asks)
def test_what_is_late_changes_nothing(asked: list[Ask], late: Ask) -> None:
    """A match, release or request of an earlier hand-over never takes a step."""
    one = domain.last(domain.start(START, "cleo"))
    for number, ask in enumerate(asked):
        try:
            steps = taken(one, ask, START.start_us + number)
        except FailedPrecondition:
            steps = []
        one = domain.last(steps) if steps else one
    if late.what not in REFUSALS and late.late:
        assert taken(one, late, START.start_us) == []


@given(st.lists(st.sampled_from(AGENTS), min_size=1, max_size=10))
def test_a_small_team_can_pass_a_conversation_round(agents: list[str]) -> None:
    """Only who hands it on is excluded: not for ever, and never all of them."""
    excluded = pb.Needs(excluded_agent_ids=["zoe"], pool_id="vip")
    new = replace(START, status=QUEUED, start_needs=needing.stored(excluded))
    one = domain.last(domain.start(new, "cleo"))
    for agent_id in agents:
        one = domain.last(domain.matched(one, one.hand_off_count, agent_id, "Name", 2_000_000))
        one = domain.last(domain.transfer(one, None, agent_id, 2_000_000))
        needs = pb.Needs.FromString(one.needs)
        assert list(needs.excluded_agent_ids) == ["zoe", agent_id]
        assert needs.pool_id == "vip"


@given(st.lists(st.text("abc", min_size=1, max_size=3), max_size=16, unique=True))
def test_exclusion_is_bounded(excluded: list[str]) -> None:
    needs = needing.stored(pb.Needs(excluded_agent_ids=excluded))
    if len(excluded) < needing.EXCLUDED_MAX:
        found = pb.Needs.FromString(needing.without(needs, "ana")).excluded_agent_ids
        assert list(found) == [*excluded, "ana"]
        return
    with pytest.raises(InvalidArgument, match="at most 16"):
        needing.without(needs, "ana")
