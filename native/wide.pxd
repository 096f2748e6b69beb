"""128-bit intermediates and the one rounding rule, for every kernel.

A product of two int64 fits in 127 bits, and a sum of fewer than 2**64 int64
fits in 128, so arithmetic is done wide and narrowed once, with `fits`.
Cython believes int128 to be a long long: cast operands, never use it in a
conditional expression, and never let one cross into Python.
"""

cimport cython
from libc.stdint cimport int64_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    typedef __int128 int128;
    __attribute__((unused)) static const uint64_t TEN_TO[20] = {
        1ULL, 10ULL, 100ULL, 1000ULL, 10000ULL, 100000ULL, 1000000ULL,
        10000000ULL, 100000000ULL, 1000000000ULL, 10000000000ULL,
        100000000000ULL, 1000000000000ULL, 10000000000000ULL,
        100000000000000ULL, 1000000000000000ULL, 10000000000000000ULL,
        100000000000000000ULL, 1000000000000000000ULL,
        10000000000000000000ULL};
    """
    ctypedef long long int128
    const uint64_t TEN_TO[20]
    # Sum to the address and whether it wrapped: gcc's, and clang's.
    bint add_overflow "__builtin_add_overflow"(int64_t, int64_t, int64_t*) noexcept nogil


cdef inline bint fits(int128 value) noexcept nogil:
    """Say whether value is representable as int64."""
    return <int128>(<int64_t>value) == value


cdef inline int128 magnitude(int64_t value) noexcept nogil:
    """Return |value|, which for INT64_MIN needs the wider type."""
    if value < 0:
        return -<int128>value
    return <int128>value


@cython.cdivision(True)
cdef inline int64_t half_even_narrow(int64_t numerator, int64_t divisor) noexcept nogil:
    """Round numerator / divisor (divisor > 0) half to even, in 64 bits."""
    cdef int64_t quotient = numerator // divisor
    cdef int64_t rest = numerator - quotient * divisor
    cdef int64_t step = 1
    if rest == 0:
        return quotient
    if rest < 0:
        rest = -rest
        step = -1
    # rest against divisor - rest: twice the rest could overflow.
    if rest > divisor - rest or (rest == divisor - rest and quotient & 1):
        quotient += step
    return quotient


@cython.cdivision(True)
cdef inline int128 half_even(int128 numerator, int128 divisor) noexcept nogil:
    """Round numerator / divisor (divisor > 0) half to even (IEEE 754-2019, 4.3.1)."""
    cdef int128 quotient, rest, step
    # A 128-bit division is a library call; most books fit in one instruction.
    if fits(numerator) and fits(divisor):
        return half_even_narrow(<int64_t>numerator, <int64_t>divisor)
    quotient = numerator // divisor
    rest = numerator - quotient * divisor
    step = 1
    if rest == 0:
        return quotient
    if rest < 0:
        rest = -rest
        step = -1
    if rest > divisor - rest or (rest == divisor - rest and quotient & 1):
        quotient += step
    return quotient
