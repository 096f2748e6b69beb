"""What a bot does in a turn."""

from dataclasses import replace
from typing import Any

import pytest
from interchange.bot.v1 import bot_pb2
from interchange.conversation.v1 import conversation_pb2 as pb

from services.bot import domain
from services.bot.domain import (
    Bot,
    Context,
    Decision,
    Detection,
    Nothing,
    Reopening,
    Silence,
    Unheard,
)

NEEDS = pb.Needs(pool_id="billing")
CLERK = Bot.of(
    bot_pb2.Bot(
        bot_id="clerk",
        greeting="hello",
        fallback_reply="pardon?",
        hand_off_reply="one moment",
        hand_off_intent="person",
        intents=[
            bot_pb2.Intent(name="hours", replies=["nine", "nine!", "nine!!"]),
            bot_pb2.Intent(name="billing", hand_off=True, needs=NEEDS),
            bot_pb2.Intent(name="fraud", replies=["stay calm"], hand_off=True),
        ],
    )
)


def sure(intent: str, confidence: int = 900) -> Detection:
    return Detection(intent, confidence, 7)


def said(decision: Decision) -> tuple[str, str]:
    reason = pb.HandOffReason.Name(decision.reason).removeprefix("HAND_OFF_REASON_")
    return decision.reply, "" if reason == "UNSPECIFIED" else reason


def test_what_was_left_out_is_filled_in() -> None:
    assert (CLERK.model_id, CLERK.threshold_millis, CLERK.misses_max) == ("clerk", 500, 2)
    assert Bot.of(bot_pb2.Bot(bot_id="a", model_id="m")).model_id == "m"


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        (Silence(), ("hello", "")),
        (sure("hours"), ("nine", "")),
        (sure("hours", 500), ("nine", "")),
        (sure("hours", 499), ("pardon?", "")),
        (sure("weather"), ("pardon?", "")),
        (sure(""), ("pardon?", "")),
        (Nothing(), ("pardon?", "")),
        (sure("person"), ("one moment", "REQUESTED")),
        (sure("person", 499), ("pardon?", "")),
        (sure("billing"), ("one moment", "INTENT")),
        (sure("fraud"), ("stay calm", "INTENT")),
        (Unheard(), ("pardon?", "LOW_CONFIDENCE")),
    ],
)
def test_first_turn(heard: domain.Heard, expected: tuple[str, str]) -> None:
    assert said(domain.decide(CLERK, Context(), 0, heard)) == expected


def test_needs_are_those_of_the_intent() -> None:
    assert domain.decide(CLERK, Context(), 0, sure("billing")).needs == NEEDS
    assert domain.decide(CLERK, Context(), 0, sure("fraud")).needs is None
    assert domain.decide(CLERK, Context(), 0, sure("person")).needs is None


def test_repeated_question_gets_the_next_wording_each_intent_by_itself() -> None:
    bot = replace(
        CLERK, intents=CLERK.intents | {"price": domain.Intent(("p1", "p2"), False, None)}
    )
    context, replies = Context(), []
    for intent in ("hours", "price", "hours", "hours", "price", "hours"):
        decision = domain.decide(bot, context, 0, sure(intent))
        context = decision.context
        replies.append(decision.reply)
    assert replies == ["nine", "p1", "nine!", "nine!!", "p2", "nine"]
    assert (context.turns, context.last_intent, context.model_version) == (6, "hours", 7)


def test_misses_in_a_row_hand_over_and_an_answer_begins_anew() -> None:
    context, replies = Context(), []
    for heard in (Nothing(), sure("hours"), sure("x"), Nothing()):
        decision = domain.decide(CLERK, context, 0, heard)
        context = decision.context
        replies.append(said(decision))
    assert replies == [
        ("pardon?", ""),
        ("nine", ""),
        ("pardon?", ""),
        ("one moment", "REPEATED_MISSES"),
    ]


def test_one_miss_is_low_confidence() -> None:
    bot = replace(CLERK, misses_max=1)
    assert said(domain.decide(bot, Context(), 0, Nothing())) == ("one moment", "LOW_CONFIDENCE")
    # A bot that has nothing to say to what it did not understand does not stay silent.
    bot = replace(CLERK, fallback_reply="")
    assert said(domain.decide(bot, Context(), 0, Nothing())) == ("one moment", "LOW_CONFIDENCE")


def test_no_bot_hands_over_whatever_is_said() -> None:
    for heard in (Silence(), Nothing(), sure("hours"), Unheard()):
        assert said(domain.decide(None, Context(), 0, heard)) == ("", "NO_BOT")


def test_a_stint_that_is_over_is_not_answered_and_the_next_begins_anew() -> None:
    over = domain.decide(CLERK, Context(), 0, sure("person")).context
    assert domain.decide(CLERK, over, 0, sure("hours")) == Decision(over)
    again = domain.decide(CLERK, over, 1, sure("hours"))
    assert said(again) == ("nine", "")
    assert again.context == Context(
        hand_off=1,
        turns=1,
        last_intent="hours",
        last_confidence_millis=900,
        model_version=7,
        uses={"hours": 1},
    )
    assert domain.decide(CLERK, again.context, 0, sure("hours")) == Decision(again.context)


def test_a_reopening_begins_a_stint_though_nothing_was_handed_over_in_between() -> None:
    """The bot asked for an agent, and the conversation ended before that was heard of."""
    over = domain.decide(CLERK, Context(), 0, sure("person")).context
    again = domain.decide(CLERK, over, 0, Reopening())
    assert again == Decision(Context())
    assert said(domain.decide(CLERK, again.context, 0, sure("hours"))) == ("nine", "")
    assert said(domain.decide(None, over, 0, Reopening())) == ("", "NO_BOT")


def test_what_a_person_ended_is_not_answered() -> None:
    closed = Context(closed=1)
    assert domain.decide(CLERK, closed, 0, sure("hours")) == Decision(closed)
    assert said(domain.decide(CLERK, closed, 1, sure("hours"))) == ("nine", "")


def test_a_greeting_that_comes_late_is_left_out() -> None:
    context: Any = domain.decide(CLERK, Context(), 0, sure("hours")).context
    assert domain.decide(CLERK, context, 0, Silence()) == Decision(context)
