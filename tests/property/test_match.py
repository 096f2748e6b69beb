from hypothesis import assume, given
from hypothesis import strategies as st

from native import match
from tests.native.arrays import quick
from tests.native.match_scene import INT32_MAX, Question, counts, questions


@quick
@given(questions(), counts)
def test_best_are_the_eligible_of_the_highest_scores(asked: Question, count: int) -> None:
    columns, scores = asked.best(count)
    everyone = range(len(asked.online))
    values, reasons = asked.explain(everyone)
    score = [sum(map(int.__mul__, five, asked.weights)) for five in values]
    eligible = [at for at in everyone if reasons[at] == match.ELIGIBLE]
    assert len(columns) == min(count, len(eligible))
    assert scores == [score[at] for at in columns]
    assert columns == sorted(eligible, key=lambda at: (-score[at], at))[:count]


@quick
@given(questions(), counts, counts)
def test_asking_for_more_changes_nothing_of_the_first(asked: Question, a: int, b: int) -> None:
    fewer, more = sorted((a, b))
    assert asked.best(more)[0][:fewer] == asked.best(fewer)[0]


@quick
@given(questions(), counts)
def test_excluding_the_best_leaves_the_others_in_their_order(asked: Question, count: int) -> None:
    columns, _ = asked.best(count)
    assume(len(columns) > 1)
    without = asked._replace(excluded=[*asked.excluded, columns[0]])
    assert without.best(count)[0][: len(columns) - 1] == columns[1:]


@quick
@given(questions())
def test_each_value_is_from_zero_to_its_most(asked: Question) -> None:
    values, _ = asked.explain(range(len(asked.online)))
    assert all(0 <= value <= match.VALUE_MAX for five in values for value in five)


@quick
@given(questions(), st.data())
def test_an_agent_who_gets_better_in_one_part_is_not_overtaken(
    asked: Question, data: st.DataObject
) -> None:
    columns, _ = asked.best(1)
    assume(columns)
    first, part = columns[0], data.draw(st.sampled_from(["load", "response_ms", "idle_ms"]))
    better = list(getattr(asked, part))
    rim = INT32_MAX if part == "idle_ms" else 0
    low, high = sorted((better[first], rim))
    better[first] = data.draw(st.integers(low, high))
    assert asked._replace(**{part: better}).best(1)[0] == columns


@quick
@given(questions())
def test_a_weight_of_zero_makes_a_part_count_nothing(asked: Question) -> None:
    blind = asked._replace(weights=[0, 0, 0, 0, asked.weights[4]])
    same = blind._replace(
        response_ms=[0] * len(asked.online), idle_ms=[7] * len(asked.online),
        wished=[], wished_levels=[],
    )  # fmt: skip
    assert blind.best(10) == same.best(10)
