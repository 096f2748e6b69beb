"""Postgres binary COPY payloads out of columns.

The format is the one of the PostgreSQL manual, COPY, "Binary Format": a
signature, flags and an empty extension; per row an int16 count of fields and
per field an int32 length and the bytes, big-endian, length -1 for NULL; and
an int16 -1 at the end.

A column is made by one of `int2`, `int4`, `int8`, `timestamptz`, `boolean`,
`uuid` and `text`. It borrows the array of values, without a copy. `nulls` is
uint8[n], 1 where the value is NULL (the value is then not looked at), or None. Columns raise ValueError for a wrong dtype, length or
layout, TypeError for a wrong type and IndexError for an index outside its
dictionary.
"""

cimport cython
import numpy as np

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport (
    INT32_MAX, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t,
)
from libc.string cimport memcpy
from native.check cimport same_length

cdef extern from *:
    uint16_t bswap16 "__builtin_bswap16"(uint16_t value) nogil
    uint32_t bswap32 "__builtin_bswap32"(uint32_t value) nogil
    uint64_t bswap64 "__builtin_bswap64"(uint64_t value) nogil

cdef bytes HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)

# A table of Postgres has no more columns than this.
cdef enum:
    COLUMNS_MAX = 1600

cdef enum Kind:
    INT2
    INT4
    INT8
    BYTE_AS_INT2
    BOOLEAN
    UUID
    TEXT

cdef struct Field:
    Kind kind
    const void* data
    const uint8_t* nulls
    const uint8_t* pool
    const int64_t* offsets


@cython.final
cdef class Column:
    """One column of a COPY: the values, how to write them, which are NULL."""

    cdef readonly Py_ssize_t rows
    cdef Field field
    cdef Py_ssize_t payload
    cdef tuple owners

    def __init__(self):
        raise TypeError("a Column is made by int2, int4, int8, timestamptz, …")


cdef Column _column(Kind kind, const void* data, Py_ssize_t rows, object owner, nulls):
    """Make a column; the owner keeps the memory behind `data` where it is."""
    cdef Column column = Column.__new__(Column)
    cdef const uint8_t[::1] mask
    column.rows = rows
    column.field.kind, column.field.data = kind, data
    column.field.nulls = column.field.pool = NULL
    column.field.offsets = NULL
    column.owners = (owner,)
    if nulls is not None:
        mask = nulls
        same_length("nulls", mask.shape[0], rows)
        # What decides on sizes is copied, lest it change before it is encoded.
        mask = np.array(mask)
        column.owners = (owner, mask)
        if rows:
            column.field.nulls = &mask[0]
    column.payload = _payload(column.field, rows)
    return column


def int8(const int64_t[::1] values not None, nulls=None):
    """Return a bigint column of int64[n]."""
    cdef Py_ssize_t n = values.shape[0]
    return _column(INT8, &values[0] if n else NULL, n, values, nulls)


def timestamptz(const int64_t[::1] values not None, nulls=None):
    """Return a timestamptz column of int64[n] microseconds since 2000-01-01 UTC."""
    return int8(values, nulls)


def int4(const int32_t[::1] values not None, nulls=None):
    """Return an integer column of int32[n], or a date column of days since 2000-01-01."""
    cdef Py_ssize_t n = values.shape[0]
    return _column(INT4, &values[0] if n else NULL, n, values, nulls)


def int2(values not None, nulls=None):
    """Return a smallint column of int16[n] or uint8[n]."""
    cdef const uint8_t[::1] narrow
    cdef const int16_t[::1] wide
    cdef Py_ssize_t n
    if getattr(values, "dtype", None) == np.uint8:
        narrow = values
        n = narrow.shape[0]
        return _column(BYTE_AS_INT2, &narrow[0] if n else NULL, n, narrow, nulls)
    wide = values
    n = wide.shape[0]
    return _column(INT2, &wide[0] if n else NULL, n, wide, nulls)


def boolean(const uint8_t[::1] values not None, nulls=None):
    """Return a boolean column of uint8[n]; what is not 0 is true."""
    cdef Py_ssize_t n = values.shape[0]
    return _column(BOOLEAN, &values[0] if n else NULL, n, values, nulls)


def uuid(bytes values not None, nulls=None):
    """Return a uuid column of 16 bytes a row."""
    if len(values) % 16:
        raise ValueError(f"length of values was {len(values)}, expected 16 a row")
    return _column(UUID, PyBytes_AS_STRING(values), len(values) // 16, values, nulls)


def text(const int64_t[::1] index not None, dictionary not None, nulls=None):
    """Return a column of dictionary[index[i]], int64[n] into a sequence of bytes.

    The bytes go out as they are: UTF-8 for text, the label of an enum, 16
    bytes of a uuid that repeats. A NULL's index is not looked at.
    """
    cdef list entries = list(dictionary)
    cdef Py_ssize_t n = index.shape[0], at
    # Copied for the same reason as `nulls`.
    index = np.array(index)
    for at, entry in enumerate(entries):
        if not isinstance(entry, bytes):
            raise TypeError(
                f"dictionary[{at}] was {type(entry).__name__}, expected bytes"
            )
        if len(entry) > INT32_MAX:
            raise ValueError(f"dictionary[{at}] was longer than a field can be")
    cdef Column column = _column(
        INT8, &index[0] if n else NULL, n, index, nulls
    )
    _expect_entries(column, len(entries))
    lengths = np.fromiter(map(len, entries), np.int64, len(entries))
    cdef int64_t[::1] offsets = np.concatenate([np.zeros(1, np.int64), lengths.cumsum()])
    cdef bytes pool = b"".join(entries)
    column.owners = (*column.owners, offsets, pool)
    column.field.kind = TEXT
    column.field.pool = <const uint8_t*>PyBytes_AS_STRING(pool)
    column.field.offsets = &offsets[0]
    column.payload = _payload(column.field, n)
    return column


cdef int _expect_entries(Column column, Py_ssize_t size) except -1:
    cdef const int64_t* index = <const int64_t*>column.field.data
    cdef const uint8_t* nulls = column.field.nulls
    cdef Py_ssize_t i, outside = -1
    with nogil:
        for i in range(column.rows):
            if (nulls is NULL or nulls[i] == 0) and not 0 <= index[i] < size:
                outside = i
                break
    if outside >= 0:
        raise IndexError(
            f"index[{outside}] was {index[outside]}, expected >= 0 and < {size}"
        )
    return 0


cdef Py_ssize_t _payload(Field field, Py_ssize_t rows) noexcept nogil:
    """Return the bytes that the column's fields take, with their lengths."""
    cdef Py_ssize_t i, total = 4 * rows
    for i in range(rows):
        if field.nulls is NULL or field.nulls[i] == 0:
            total += _width(&field, i)
    return total


cdef inline Py_ssize_t _width(const Field* field, Py_ssize_t row) noexcept nogil:
    cdef int64_t entry
    if field.kind == INT8:
        return 8
    if field.kind == INT4:
        return 4
    if field.kind == UUID:
        return 16
    if field.kind == BOOLEAN:
        return 1
    if field.kind == TEXT:
        entry = (<const int64_t*>field.data)[row]
        return field.offsets[entry + 1] - field.offsets[entry]
    return 2


def encode_copy(columns not None, Py_ssize_t rows):
    """Encode the columns of `rows` rows as one binary COPY payload.

    Raises ValueError when a column has another number of rows, or there are
    none or more than 1600 columns, and TypeError for what is no Column.
    """
    cdef list held = list(columns)
    cdef Py_ssize_t count = len(held), size = len(HEADER) + 2, i
    cdef Column column
    if not 1 <= count <= COLUMNS_MAX:
        raise ValueError(f"number of columns was {count}, expected 1 to {COLUMNS_MAX}")
    for i in range(count):
        column = held[i]
        if column is None:
            raise TypeError(f"columns[{i}] was None, expected a Column")
        same_length(f"columns[{i}]", column.rows, rows)
        size += column.payload
    size += 2 * rows
    cdef bytes payload = PyBytes_FromStringAndSize(NULL, size)
    cdef uint8_t* out = <uint8_t*>PyBytes_AS_STRING(payload)
    cdef Field* fields = <Field*>PyMem_Malloc(count * sizeof(Field))
    if fields is NULL:
        raise MemoryError
    for i in range(count):
        column = held[i]
        fields[i] = column.field
    memcpy(out, PyBytes_AS_STRING(HEADER), len(HEADER))
    out += len(HEADER)
    with nogil:
        out = _write(out, fields, <int>count, rows)
        out[0] = out[1] = 0xFF
    PyMem_Free(fields)
    return payload


cdef uint8_t* _write(
    uint8_t* out, const Field* fields, int count, Py_ssize_t rows
) noexcept nogil:
    cdef Py_ssize_t row
    cdef int at
    cdef uint16_t heading = bswap16(<uint16_t>count)
    cdef uint32_t null = 0xFFFFFFFF
    for row in range(rows):
        memcpy(out, &heading, 2)
        out += 2
        for at in range(count):
            if fields[at].nulls is not NULL and fields[at].nulls[row] != 0:
                memcpy(out, &null, 4)
                out += 4
            else:
                out = _put(out, &fields[at], row)
    return out


cdef inline uint8_t* _put(uint8_t* out, const Field* field, Py_ssize_t row) noexcept nogil:
    cdef Py_ssize_t width = _width(field, row)
    cdef uint32_t length = bswap32(<uint32_t>width)
    cdef uint64_t long_
    cdef uint32_t int_
    cdef uint16_t short_
    memcpy(out, &length, 4)
    out += 4
    if field.kind == INT8:
        long_ = bswap64(<uint64_t>(<const int64_t*>field.data)[row])
        memcpy(out, &long_, 8)
    elif field.kind == INT4:
        int_ = bswap32(<uint32_t>(<const int32_t*>field.data)[row])
        memcpy(out, &int_, 4)
    elif field.kind == UUID:
        memcpy(out, <const uint8_t*>field.data + 16 * row, 16)
    elif field.kind == BOOLEAN:
        out[0] = (<const uint8_t*>field.data)[row] != 0
    elif field.kind == TEXT:
        memcpy(
            out,
            field.pool + field.offsets[(<const int64_t*>field.data)[row]],
            width,
        )
    else:
        if field.kind == BYTE_AS_INT2:
            short_ = (<const uint8_t*>field.data)[row]
        else:
            short_ = <uint16_t>(<const int16_t*>field.data)[row]
        short_ = bswap16(short_)
        memcpy(out, &short_, 2)
    return out + width
