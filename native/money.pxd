"""Scales, status codes and the scalar forms, for kernels that cimport them."""

from libc.stdint cimport int64_t
from native.wide cimport TEN_TO, fits, half_even, int128

cpdef enum:
    QUANTITY_SCALE = 6
    PRICE_SCALE = 8
    NANOS_SCALE = 9
    EXPONENT_MAX = 4
    SCALE_MAX = 18
    TEXT_LENGTH_MAX = 64

cpdef enum:
    OK = 0
    NOT_A_NUMBER = 1
    TOO_MANY_DECIMALS = 2
    OUT_OF_RANGE = 3


cdef inline bint notional_one(
    int64_t quantity, int64_t price, int exponent, int64_t* amount
) noexcept nogil:
    """Write quantity x price in minor units to amount; return False on overflow."""
    cdef int128 rounded = half_even(
        <int128>quantity * <int128>price,
        <int128>TEN_TO[QUANTITY_SCALE + PRICE_SCALE - exponent],
    )
    if not fits(rounded):
        amount[0] = 0
        return False
    amount[0] = <int64_t>rounded
    return True
