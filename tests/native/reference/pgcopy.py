"""Binary COPY, written and read by `struct` alone.

From the PostgreSQL manual, COPY, "Binary Format".
"""

import struct
from collections.abc import Sequence

SIGNATURE = b"PGCOPY\n\xff\r\n\x00"
FORMATS = {"int2": ">h", "int4": ">i", "int8": ">q", "timestamptz": ">q"}

Value = int | bytes | bool | None


def field(kind: str, value: Value) -> bytes:
    """Encode one field with its length; None is NULL."""
    if value is None:
        return struct.pack(">i", -1)
    if isinstance(value, bytes):
        data = value
    elif kind == "boolean":
        data = b"\x01" if value else b"\x00"
    else:
        data = struct.pack(FORMATS[kind], value)
    return struct.pack(">i", len(data)) + data


def encode_copy(kinds: Sequence[str], rows: Sequence[Sequence[Value]]) -> bytes:
    """Encode rows of Python values as one payload."""
    parts = [SIGNATURE, struct.pack(">ii", 0, 0)]
    for row in rows:
        parts.append(struct.pack(">h", len(kinds)))
        for kind, value in zip(kinds, row, strict=True):
            parts.append(field(kind, value))
    parts.append(struct.pack(">h", -1))
    return b"".join(parts)


def decode_copy(kinds: Sequence[str], payload: bytes) -> list[tuple[Value, ...]]:
    """Read a payload back as rows, refusing anything malformed or left over."""
    assert payload.startswith(SIGNATURE + bytes(8))
    at = len(SIGNATURE) + 8
    rows: list[tuple[Value, ...]] = []
    while True:
        (count,) = struct.unpack_from(">h", payload, at)
        at += 2
        if count == -1:
            assert at == len(payload)
            return rows
        assert count == len(kinds)
        row: list[Value] = []
        for kind in kinds:
            (length,) = struct.unpack_from(">i", payload, at)
            at += 4
            if length == -1:
                row.append(None)
                continue
            row.append(value(kind, payload[at : at + length]))
            at += length
        rows.append(tuple(row))


def value(kind: str, data: bytes) -> Value:
    """Decode the bytes of one field that is not NULL."""
    if kind == "boolean":
        assert data in (b"\x00", b"\x01")
        return data == b"\x01"
    if kind in FORMATS:
        (number,) = struct.unpack(FORMATS[kind], data)
        return int(number)
    return data
