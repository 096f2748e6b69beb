"""The parts of a score for one agent, shared by `best` and `explain`.

Each is an integer from 0 to VALUE_MAX, rounded down. They divide in double,
which vectorises where a division of integers does not, and is exact: the
dividend is below 2^53, and a quotient below 2^20 with a divisor below 2^32 is
either an integer or further from one than its rounding error of 2^-34.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t

cpdef enum:
    ELIGIBLE = 0
    OFFLINE = 1
    NO_CAPACITY = 2
    MISSING_SKILL = 3
    EXCLUDED = 4

cpdef enum:
    VALUE_MAX = 1_000_000
    WEIGHT_MAX = 1_000
    PARTS = 5
    COUNT_MAX = 64
    WISHED_MAX = 64
    RESPONSE_HALF_MS = 60_000
    IDLE_HALF_MS = 300_000


cdef inline uint32_t wished_value(int32_t reached, int32_t asked) noexcept nogil:
    """VALUE_MAX * reached / asked: levels reached, of those asked for (> 0)."""
    return <uint32_t><int32_t>(<double>VALUE_MAX * <double>reached / <double>asked)


cdef inline uint32_t load_value(int32_t load, int32_t limit) noexcept nogil:
    """VALUE_MAX * (limit - load) / limit: the free share; 0 without any."""
    cdef int32_t free = limit - load
    free = free if free > 0 else 0
    return <uint32_t><int32_t>(
        <double>VALUE_MAX * <double>free / <double>(limit if limit > 0 else 1)
    )


cdef inline uint32_t response_value(int32_t response_ms) noexcept nogil:
    """VALUE_MAX * half / (half + response_ms): halved at RESPONSE_HALF_MS."""
    return <uint32_t><int32_t>(
        <double>VALUE_MAX * <double>RESPONSE_HALF_MS
        / (<double>RESPONSE_HALF_MS + <double>response_ms)
    )


cdef inline uint32_t idle_value(int32_t idle_ms) noexcept nogil:
    """VALUE_MAX * idle_ms / (half + idle_ms): a half at IDLE_HALF_MS, never all."""
    return <uint32_t><int32_t>(
        <double>VALUE_MAX * <double>idle_ms / (<double>IDLE_HALF_MS + <double>idle_ms)
    )


cdef inline uint32_t preference_value(uint8_t preference) noexcept nogil:
    """VALUE_MAX * preference / 255."""
    return <uint32_t>preference * <uint32_t>VALUE_MAX // <uint32_t>255
