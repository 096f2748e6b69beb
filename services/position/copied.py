"""Binary COPY, read: the first row in which two of them differ."""

import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeAlias
from uuid import UUID

Row: TypeAlias = tuple[bytes, ...]

HEADER_LENGTH = 19
TIMES = {"recorded_at"}
UUIDS = {"event_id"}
TEXTS = {"tenant_id", "account_id", "instrument_id", "currency", "source_topic"}
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def rows(payload: bytes) -> Iterator[Row]:
    """Yield the rows of a binary COPY without NULLs, each a tuple of its fields."""
    at = HEADER_LENGTH
    while (count := struct.unpack_from(">h", payload, at)[0]) >= 0:
        at += 2
        fields = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", payload, at)
            fields.append(payload[at + 4 : at + 4 + length])
            at += 4 + length
        yield tuple(fields)


def first_difference(
    kept: bytes, rebuilt: bytes, names: Sequence[str], key_length: int
) -> tuple[str, str, str]:
    """Return (key, what is kept, what was rebuilt) of the first row that differs.

    The first `key_length` columns name a row; both payloads are in their order.
    """
    here = {row[:key_length]: row for row in rows(kept)}
    there = {row[:key_length]: row for row in rows(rebuilt)}
    for key in [*there, *here]:
        if here.get(key) != there.get(key):
            values = [
                "missing" if row is None else _text(row[key_length:], names[key_length:])
                for row in (here.get(key), there.get(key))
            ]
            return _text(key, names), values[0], values[1]
    return "", "order of rows", "order of rows"


def _text(fields: Row, names: Sequence[str]) -> str:
    return " ".join(
        f"{name}={_value(name, value)}" for name, value in zip(names, fields, strict=False)
    )


def _value(name: str, value: bytes) -> str:
    if name in TEXTS:
        return value.decode()
    if name in UUIDS:
        return str(UUID(bytes=value))
    number = int.from_bytes(value, signed=True)
    if name in TIMES:
        return (_EPOCH + timedelta(microseconds=number)).isoformat()
    return str(number)
