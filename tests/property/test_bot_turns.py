"""Bots under any turns: never silent, never twice over, and the same each time."""

from hypothesis import given
from hypothesis import strategies as st

from services.bot import domain
from services.bot.domain import Bot, Context, Detection, Heard, Intent, Nothing, Silence, Unheard

NAMES = ("a", "b", "c", "unknown", "")

replies = st.lists(st.sampled_from(["r1", "r2", "r3"]), max_size=3).map(tuple)
intents = st.builds(Intent, replies=replies, hand_off=st.booleans(), needs=st.none()).filter(
    lambda one: one.replies or one.hand_off
)
words = st.sampled_from(["", "said"])
bots = st.builds(
    Bot,
    bot_id=st.just("bot"),
    model_id=st.just("bot"),
    greeting=words,
    fallback_reply=words,
    hand_off_reply=words,
    threshold_millis=st.integers(1, 1000),
    misses_max=st.integers(1, 10),
    hand_off_intent=st.sampled_from(["", "a", "unknown"]),
    intents=st.dictionaries(st.sampled_from(["a", "b", "c"]), intents),
)
heards = st.one_of(
    st.builds(
        Detection,
        intent=st.sampled_from(NAMES),
        confidence_millis=st.integers(0, 1000),
        model_version=st.integers(1, 3),
    ),
    st.sampled_from([Nothing(), Silence(), Unheard()]),
)


@given(st.none() | bots, st.lists(st.tuples(heards, st.integers(0, 2)), max_size=30))
def test_every_turn_of_a_stint_is_answered_until_it_is_over(
    bot: Bot | None, turns: list[tuple[Heard, int]]
) -> None:
    context, stint, over = Context(), 0, False
    for heard, hand_off in turns:
        decision = domain.decide(bot, context, hand_off, heard)
        assert decision == domain.decide(bot, context, hand_off, heard)
        late = hand_off < stint
        if hand_off > stint:
            stint, over = hand_off, False
        if late or over:
            assert (decision.reply, decision.reason) == ("", 0)
        elif bot is None or not isinstance(heard, Silence):
            assert decision.reply or decision.reason
        if not late:
            over = over or bool(decision.reason)
            assert decision.context.handed_off == over
        context = decision.context


@given(bots, st.lists(heards, max_size=20))
def test_misses_in_a_row_are_bounded(bot: Bot, turns: list[Heard]) -> None:
    context = Context()
    for heard in turns:
        context = domain.decide(bot, context, 0, heard).context
        assert context.misses <= bot.misses_max
        assert context.handed_off or context.misses < bot.misses_max


@given(bots, st.integers(0, 50))
def test_each_wording_has_its_turn(bot: Bot, count: int) -> None:
    context = Context()
    for name, intent in bot.intents.items():
        if intent.hand_off or not intent.replies or name == bot.hand_off_intent:
            continue
        said = []
        for _ in range(count):
            decision = domain.decide(bot, context, 0, Detection(name, 1000, 1))
            context = decision.context
            said.append(decision.reply)
        expected = [intent.replies[number % len(intent.replies)] for number in range(count)]
        assert said == expected
