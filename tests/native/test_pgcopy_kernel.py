import gc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from native import pgcopy
from tests.native.arrays import INT64_MAX, INT64_MIN, few, i64, int64s, quick, seeds, u8
from tests.native.reference import pgcopy as twin

KINDS = ["int8", "int4", "int2", "int2", "boolean", "uuid", "text", "timestamptz"]
LABELS = [b"", b"pending", "Zürich".encode(), bytes(range(256))]
cells = st.tuples(
    int64s,
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**15), 2**15 - 1),
    st.integers(0, 255),
    st.booleans(),
    st.binary(min_size=16, max_size=16),
    st.integers(0, len(LABELS) - 1),
    int64s,
)
rows_with_nulls = st.lists(
    st.tuples(cells, st.lists(st.booleans(), min_size=8, max_size=8)), max_size=12
)


def columns(values: list[list[Any]], nulls: list[np.ndarray | None]) -> list[pgcopy.Column]:
    """Make one column of each kind out of columns of Python values."""
    wide, middle, narrow, byte, flag, key, label, moment = values
    return [
        pgcopy.int8(i64(wide), nulls[0]),
        pgcopy.int4(np.array(middle, np.int32), nulls[1]),
        pgcopy.int2(np.array(narrow, np.int16), nulls[2]),
        pgcopy.int2(u8(byte), nulls[3]),
        pgcopy.boolean(u8(flag), nulls[4]),
        pgcopy.uuid(b"".join(key), nulls[5]),
        pgcopy.text(i64(label), LABELS, nulls[6]),
        pgcopy.timestamptz(i64(moment), nulls[7]),
    ]


@quick
@given(rows_with_nulls, st.booleans())
def test_encode_given_every_kind_of_column_then_the_twin_reads_the_same_rows(
    drawn: list[tuple[tuple[Any, ...], list[bool]]], nullable: bool
) -> None:
    rows = [row for row, _ in drawn]
    masks = [[mask[i] and nullable for _, mask in drawn] for i in range(8)]
    values = [[row[i] for row in rows] for i in range(8)]
    made = columns(values, [u8(mask) if nullable else None for mask in masks])
    gc.collect()
    payload = pgcopy.encode_copy(made, len(rows))
    values[6] = [LABELS[index] for index in values[6]]
    expected = [
        tuple(None if masks[i][at] else values[i][at] for i in range(8)) for at in range(len(rows))
    ]
    assert payload == twin.encode_copy(KINDS, expected)
    assert twin.decode_copy(KINDS, payload) == expected


@few
@given(seeds)
def test_encode_given_a_large_batch_then_kernel_and_twin_agree(seed: int) -> None:
    random = np.random.default_rng(seed)
    n = int(random.integers(20_000, 50_001))
    wide, index = random.integers(INT64_MIN, INT64_MAX, n), random.integers(0, 3, n)
    key = random.bytes(16 * n)
    payload = pgcopy.encode_copy(
        [pgcopy.int8(wide), pgcopy.uuid(key), pgcopy.text(index, LABELS)], n
    )
    keys = [key[16 * at : 16 * at + 16] for at in range(n)]
    rows = list(zip(wide.tolist(), keys, [LABELS[at] for at in index], strict=True))
    assert payload == twin.encode_copy(["int8", "uuid", "text"], rows)


def test_encode_given_the_manual_then_the_payload_byte_for_byte() -> None:
    payload = pgcopy.encode_copy([pgcopy.int2(u8([5])), pgcopy.text(i64([0]), [b"ab"])], 1)
    assert payload == (
        b"PGCOPY\n\xff\r\n\x00" + bytes(8)
        + b"\x00\x02" + b"\x00\x00\x00\x02\x00\x05" + b"\x00\x00\x00\x02ab"
        + b"\xff\xff"
    )  # fmt: skip


def test_encode_given_no_rows_then_a_header_and_a_trailer() -> None:
    payload = pgcopy.encode_copy(columns([[]] * 8, [None] * 8), 0)
    assert payload == twin.encode_copy(KINDS, [])


def test_text_given_a_null_then_its_index_is_not_looked_at() -> None:
    column = pgcopy.text(i64([INT64_MAX]), [], u8([1]))
    assert twin.decode_copy(["text"], pgcopy.encode_copy([column], 1)) == [(None,)]


def test_column_given_a_mask_that_changes_later_then_encoded_as_it_was() -> None:
    nulls, index = np.zeros(1, np.uint8), np.zeros(1, np.int64)
    column = pgcopy.text(index, [b"a"], nulls)
    nulls[0], index[0] = 1, 99
    assert twin.decode_copy(["text"], pgcopy.encode_copy([column], 1)) == [(b"a",)]


def test_column_given_an_array_without_another_owner_then_it_stays_alive() -> None:
    made = [pgcopy.int8(np.arange(at, at + 1000)) for at in range(50)]
    gc.collect()
    rows = twin.decode_copy(["int8"] * 50, pgcopy.encode_copy(made, 1000))
    assert rows[999] == tuple(range(999, 1049))


def test_column_given_an_encoding_then_it_can_be_encoded_again() -> None:
    column = pgcopy.int8(i64([1, 2]))
    assert pgcopy.encode_copy([column, column], 2) == pgcopy.encode_copy([column] * 2, 2)


@pytest.mark.parametrize("index", [-1, 2, INT64_MIN, INT64_MAX])
def test_text_given_an_index_outside_the_dictionary_then_index_error(index: int) -> None:
    with pytest.raises(IndexError, match=r"index\[1\] was"):
        pgcopy.text(i64([0, index]), [b"a", b"b"])


@pytest.mark.parametrize("rows", [0, 1, 3, -1, 2**62])
def test_encode_given_another_number_of_rows_then_value_error(rows: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        pgcopy.encode_copy([pgcopy.int8(i64([1, 2]))], rows)


@pytest.mark.parametrize("count", [0, 1601])
def test_encode_given_a_number_of_columns_no_table_has_then_value_error(count: int) -> None:
    with pytest.raises(ValueError, match="number of columns"):
        pgcopy.encode_copy([pgcopy.int8(i64([1]))] * count, 1)


@pytest.mark.parametrize("wrong", [None, 5, [None], [i64([1])], ["int8"]])
def test_encode_given_no_columns_then_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError):
        pgcopy.encode_copy(wrong, 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: pgcopy.int8(np.array([1], np.int32)),
        lambda: pgcopy.int8(i64([1, 2, 3])[::2]),
        lambda: pgcopy.int4(i64([1])),
        lambda: pgcopy.int2(i64([1])),
        lambda: pgcopy.boolean(i64([1])),
        lambda: pgcopy.uuid(b"short"),
        lambda: pgcopy.int8(i64([1]), u8([0, 0])),
        lambda: pgcopy.int8(i64([1]), i64([0])),
    ],
)
def test_column_given_a_wrong_array_then_value_error(make: Any) -> None:
    with pytest.raises(ValueError, match=r"dtype|contiguous|length"):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: pgcopy.Column(),
        lambda: pgcopy.int8(None),
        lambda: pgcopy.int2(None),
        lambda: pgcopy.int2([1]),
        lambda: pgcopy.uuid(None),
        lambda: pgcopy.uuid("0" * 16),
        lambda: pgcopy.text(i64([0]), ["a"]),
        lambda: pgcopy.text(i64([0]), None),
        lambda: pgcopy.text(i64([0]), b"ab"),
    ],
)
def test_column_given_a_wrong_type_then_type_error(make: Any) -> None:
    with pytest.raises(TypeError):
        make()
