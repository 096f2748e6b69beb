import random
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.clock import ManualClock, SystemClock
from services.common.ids import Uuid7, uuid7_batch, uuid7_bounds

NOW_US = 1_700_000_000_123_456


def test_system_clock_tells_utc_both_ways():
    clock = SystemClock()

    before, now, after = clock.now_us(), clock.now(), clock.now_us()

    assert now.tzinfo is UTC
    assert before - 1 <= now.timestamp() * 1e6 <= after + 1


def test_manual_clock_stands_still_until_moved():
    clock = ManualClock(datetime(2026, 3, 2, 9, 30, tzinfo=UTC))

    clock.advance(timedelta(microseconds=7))

    assert clock.now() == datetime(2026, 3, 2, 9, 30, 0, 7, tzinfo=UTC)
    assert clock.now_us() == clock.now_us() == 1_772_443_800_000_007


def test_manual_clock_refuses_to_go_back():
    clock = ManualClock(datetime(2026, 3, 2, tzinfo=UTC))

    with pytest.raises(ValueError, match="moved back"):
        clock.advance(timedelta(seconds=-1))


def test_manual_clock_refuses_time_without_zone():
    with pytest.raises(ValueError, match="no time zone"):
        ManualClock(datetime(2026, 3, 2))


def test_batch_of_ids_is_version_7_unique_and_ascending():
    ids = uuid7_batch(5_000, NOW_US)

    parsed = [uuid.UUID(text) for text in ids]
    assert ids == sorted(set(ids))
    assert {one.version for one in parsed} == {7}
    assert {one.variant for one in parsed} == {uuid.RFC_4122}
    assert {one.int >> 80 for one in parsed} == {NOW_US // 1000}


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(-9_000_000, 9_000_000)), max_size=20))
def test_ids_ascend_while_the_clock_stands_still_or_steps_back(batches):
    maker = Uuid7()

    ids = [one for count, step in batches for one in maker.batch(count, NOW_US + step // 2)]

    assert ids == sorted(set(ids))


def test_ids_follow_a_clock_that_was_set_back_far():
    maker = Uuid7()
    maker.batch(1, NOW_US)

    (late,) = maker.batch(1, NOW_US - 3_600_000_000)

    assert uuid.UUID(late).int >> 80 == (NOW_US - 3_600_000_000) // 1000


def test_ids_of_a_full_tail_go_to_the_next_tick():
    maker = Uuid7()
    maker.batch(1, NOW_US)
    maker._tail = (1 << 62) - 2

    before, after = maker.batch(1, NOW_US, lambda n: bytes(n)), maker.batch(1, NOW_US)

    assert before < after
    assert uuid.UUID(after[0]).variant == uuid.RFC_4122


def test_same_seed_and_time_make_the_same_ids():
    first = Uuid7().batch(10, NOW_US, random.Random(7).randbytes)
    second = Uuid7().batch(10, NOW_US, random.Random(7).randbytes)

    assert first == second


@given(st.integers(0, 4_000_000_000_000_000))
def test_bound_of_a_moment_divides_the_ids(now_us):
    (earlier,) = Uuid7().batch(1, max(0, now_us - 1))
    (same,) = Uuid7().batch(1, now_us)

    assert uuid7_bounds(now_us) <= same
    assert now_us == 0 or earlier < uuid7_bounds(now_us)
