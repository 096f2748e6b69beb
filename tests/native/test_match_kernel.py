from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from native import match
from tests.native.arrays import few, quick, seeds
from tests.native.match_scene import INT32_MAX, Question, counts, i32, question, questions
from tests.native.reference import match as twin

ONE = match.VALUE_MAX


@quick
@given(questions(), counts)
def test_best_given_any_question_then_kernel_and_twin_agree(asked: Question, count: int) -> None:
    assert asked.best(count) == twin.best(*asked, count)


@quick
@given(questions(), st.randoms(use_true_random=False))
def test_explain_given_any_question_then_kernel_and_twin_agree(
    asked: Question, random: Any
) -> None:
    n = len(asked.online)
    agents = [random.randrange(n) for _ in range(min(n, 20))]
    assert asked.explain(agents) == twin.explain(*asked, agents)


@few
@given(seeds, counts)
def test_best_given_many_agents_then_kernel_and_twin_agree(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    n = int(random.integers(5_000, 20_000))
    limit = random.integers(0, 12, n)
    asked = question(
        n,
        levels=random.integers(0, 11, (8, n)).tolist(),
        online=(random.random(n) < 0.8).astype(int).tolist(),
        limit=limit.tolist(),
        load=(random.random(n) * (limit + 1)).astype(int).tolist(),
        response_ms=random.integers(0, 200_000, n).tolist(),
        idle_ms=random.integers(0, INT32_MAX, n).tolist(),
        preference=random.integers(0, 256, n).tolist(),
        required=[1, 2],
        required_levels=[2, 2],
        wished=[3, 4, 5],
        wished_levels=[9, 4, 2],
        excluded=random.integers(0, n, 16).tolist(),
        weights=random.integers(0, 1_001, 5).tolist(),
    )
    assert asked.best(count) == twin.best(*asked, count)


@pytest.mark.parametrize(
    ("divisor", "dividends"),
    [
        (1, [1, INT32_MAX]),
        (3, [1, 2]),
        (INT32_MAX, [1, INT32_MAX - 1]),
        (INT32_MAX - 1, [INT32_MAX]),
    ],
)
def test_values_given_divisions_that_barely_round_then_kernel_and_twin_agree(
    divisor: int, dividends: list[int]
) -> None:
    near = [max(0, d + off) for d in dividends for off in (-2, -1, 0)]
    n = len(near)
    asked = question(n, limit=[divisor] * n, load=near, response_ms=near, idle_ms=near)
    assert asked.explain(range(n)) == twin.explain(*asked, range(n))


def test_best_given_equal_agents_then_the_lowest_columns_in_order() -> None:
    assert question(1_100).best(5)[0] == [0, 1, 2, 3, 4]


def test_best_given_scores_that_rise_then_the_last_columns_first() -> None:
    n = 1_300
    asked = question(n, idle_ms=list(range(0, n * 1_000, 1_000)))
    assert asked.best(64)[0] == list(range(n - 1, n - 65, -1))


def test_best_given_fewer_eligible_than_asked_for_then_all_of_them() -> None:
    asked = question(600, online=[0] * 599 + [1])
    assert asked.best(64)[0] == [599]
    assert question(600, online=[0] * 600).best(1) == ([], [])
    assert question(0).best(3) == ([], [])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, match.ELIGIBLE),
        ({"online": [0], "load": [9], "excluded": [0]}, match.OFFLINE),
        ({"load": [4], "excluded": [0]}, match.NO_CAPACITY),
        ({"limit": [0]}, match.NO_CAPACITY),
        ({"required": [0], "required_levels": [6], "excluded": [0]}, match.MISSING_SKILL),
        ({"required": [0], "required_levels": [5]}, match.ELIGIBLE),
        ({"excluded": [0, 0]}, match.EXCLUDED),
    ],
)
def test_agent_given_a_hindrance_then_the_first_is_named_and_he_is_not_chosen(
    given: dict[str, Any], reason: int
) -> None:
    asked = question(1, **given)
    assert asked.explain([0])[1] == [reason]
    assert asked.best(1)[0] == ([0] if reason == match.ELIGIBLE else [])


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({}, [ONE, ONE, ONE, 0, 0]),
        ({"wished": [0], "wished_levels": [10]}, [500_000, ONE, ONE, 0, 0]),
        ({"wished": [0], "wished_levels": [3]}, [ONE, ONE, ONE, 0, 0]),
        ({"load": [1]}, [ONE, 750_000, ONE, 0, 0]),
        ({"load": [7]}, [ONE, 0, ONE, 0, 0]),
        ({"response_ms": [match.RESPONSE_HALF_MS]}, [ONE, ONE, 500_000, 0, 0]),
        ({"idle_ms": [match.IDLE_HALF_MS]}, [ONE, ONE, ONE, 500_000, 0]),
        ({"preference": [255]}, [ONE, ONE, ONE, 0, ONE]),
    ],
)
def test_value_given_what_an_agent_has_then_as_documented(
    given: dict[str, Any], values: list[int]
) -> None:
    assert question(1, **given).explain([0])[0] == [values]


def test_best_given_everything_at_its_most_then_the_score_is_exact() -> None:
    asked = question(
        1, levels=[[255]], wished=[0] * 64, wished_levels=[255] * 64,
        limit=[INT32_MAX], idle_ms=[INT32_MAX], preference=[255], weights=[1_000] * 5,
    )  # fmt: skip
    idle = ONE * INT32_MAX // (INT32_MAX + match.IDLE_HALF_MS)
    assert asked.best(64) == ([0], [1_000 * (4 * ONE + idle)])


def test_kernels_given_inputs_then_they_are_not_modified() -> None:
    asked = question(40, wished=[0], wished_levels=[9], required=[0], required_levels=[1])
    columns = [column.copy() for column in asked.arrays()]
    match.best(*columns, 3)
    match.explain(*columns, i32([1]))
    for column, before in zip(columns, asked.arrays(), strict=True):
        assert np.array_equal(column, before)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"load": [-1]}, r"load\[0\] was -1, expected >= 0"),
        ({"limit": [-5]}, r"limit\[0\] was -5"),
        ({"response_ms": [-1]}, r"response_ms\[0\] was -1"),
        ({"idle_ms": [-1]}, r"idle_ms\[0\] was -1"),
        ({"load": [0, 0]}, "length of load was 2, expected 1"),
        ({"required": [0]}, "length of required_levels was 0, expected 1"),
        ({"required": [1], "required_levels": [1]}, r"required\[0\] was 1, expected >= 0 and < 1"),
        ({"required": [-1], "required_levels": [1]}, r"required\[0\] was -1"),
        ({"required": [0], "required_levels": [0]}, r"required_levels\[0\] was 0, expected >= 1"),
        ({"wished": [INT32_MAX], "wished_levels": [1]}, r"wished\[0\] was"),
        ({"wished": [0], "wished_levels": [0]}, r"wished_levels\[0\] was 0"),
        ({"wished": [0] * 65, "wished_levels": [1] * 65}, "length of wished was 65"),
        ({"excluded": [0, 1]}, r"excluded\[1\] was 1"),
        ({"weights": [1] * 4}, "length of weights was 4, expected 5"),
        ({"weights": [0, 0, 1_001, 0, 0]}, r"weights\[2\] was 1001"),
        ({"weights": [0, 0, 0, 0, -1]}, r"weights\[4\] was -1"),
    ],
)
def test_question_given_a_wrong_value_then_value_error(given: dict[str, Any], message: str) -> None:
    asked = question(1, **given)
    with pytest.raises(ValueError, match=message):
        asked.best(1)
    with pytest.raises(ValueError, match=message):
        asked.explain([0])


@pytest.mark.parametrize("count", [0, -1, 65])
def test_best_given_a_wrong_count_then_value_error(count: int) -> None:
    with pytest.raises(ValueError, match=f"count was {count}, expected >= 1 and <= 64"):
        question(1).best(count)


@pytest.mark.parametrize("column", [-1, 1, INT32_MAX])
def test_explain_given_a_column_that_is_not_there_then_value_error(column: int) -> None:
    with pytest.raises(ValueError, match=r"agents\[1\] was"):
        question(1).explain([0, column])


@pytest.mark.parametrize("at", range(13))
@pytest.mark.parametrize("wrong", [np.array([1.5]), i32(range(26))[::2], np.zeros((2, 2, 2)), None])
def test_question_given_a_column_of_another_kind_then_a_clean_error(at: int, wrong: object) -> None:
    columns: list[Any] = list(question(13).arrays())
    columns[at] = wrong
    with pytest.raises((ValueError, TypeError)):
        match.best(*columns, 1)
