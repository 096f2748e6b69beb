"""Decimals, prices and amounts as scaled int64.

A quantity is an int64 of 1e-6 units (QUANTITY_SCALE), a price an int64 of
1e-8 (PRICE_SCALE), an amount an int64 of minor units of its currency, whose
ISO 4217 exponent is 0 to 4. Rounding is half-even and happens once.

Every function takes C-contiguous arrays of one length and returns new ones.
A row that cannot be represented has a status other than OK and the value 0;
it never raises. What is wrong with the call itself raises ValueError (dtype,
length, layout, scale or exponent outside its range) or TypeError.
"""

import numpy as np

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy
from native.check cimport same_length
from native.wide cimport TEN_TO, fits, int128

cdef extern from *:
    int __builtin_ctzll(uint64_t) noexcept nogil


cdef extern from "Python.h":
    enum: PyUnicode_1BYTE_KIND
    int PyUnicode_KIND(object text)
    const uint8_t* PyUnicode_1BYTE_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)

cdef struct Text:
    const uint8_t* data
    Py_ssize_t length

# Sign, 19 digits, a point: INT64_MIN at scale 18 takes 21 characters.
cdef enum:
    SLOT = 24
    CHUNK = 512


def parse_decimals(texts not None, int scale):
    """Parse n decimal strings to (values int64[n], status uint8[n]) of 10**-scale.

    The grammar is google.type.Decimal's: sign, digits with a point, exponent;
    ASCII only, at most 64 characters. Unlike there, the empty string is
    NOT_A_NUMBER. A result must be exact: digits beyond the scale are
    TOO_MANY_DECIMALS unless they are zeros, and that is reported before
    OUT_OF_RANGE. "-0" is 0.

    Raises TypeError when texts is one str or holds something else than str.
    """
    if isinstance(texts, (str, bytes)):
        raise TypeError(f"texts was {type(texts).__name__}, expected a sequence of str")
    _expect_scale(scale)
    # The tuple keeps each string alive while the loop runs without the GIL.
    cdef tuple held = tuple(texts)
    cdef Py_ssize_t i, n = len(held)
    values, status = np.empty(n, np.int64), np.empty(n, np.uint8)
    cdef int64_t[::1] value = values
    cdef uint8_t[::1] code = status
    cdef Text* spans = <Text*>PyMem_Malloc(max(n, 1) * sizeof(Text))
    if spans is NULL:
        raise MemoryError
    try:
        for i in range(n):
            spans[i] = _span(held[i])
        with nogil:
            for i in range(n):
                code[i] = _parse(spans[i], scale, &value[i])
    finally:
        PyMem_Free(spans)
    return values, status


cdef Text _span(object text) except *:
    cdef Text span
    if not isinstance(text, str):
        raise TypeError(f"text was {type(text).__name__}, expected str")
    span.data = NULL
    span.length = PyUnicode_GET_LENGTH(text)
    # Wider kinds hold a character outside Latin-1, so they are no number.
    if PyUnicode_KIND(text) == PyUnicode_1BYTE_KIND:
        span.data = PyUnicode_1BYTE_DATA(text)
    return span


cdef uint8_t _parse(Text text, int scale, int64_t* value) noexcept nogil:
    cdef Py_ssize_t at = 0, length = text.length
    cdef const uint8_t* data = text.data
    cdef bint negative = False, pointed = False
    cdef int digits = 0, significant = 0, zeros = 0, power = scale
    cdef unsigned int digit
    cdef uint64_t mantissa = 0
    value[0] = 0
    if data is NULL or length == 0 or length > TEXT_LENGTH_MAX:
        return NOT_A_NUMBER
    if data[0] == c'-' or data[0] == c'+':
        negative = data[0] == c'-'
        at = 1
    while at < length:
        digit = <unsigned int>data[at] - c'0'
        if digit > 9:
            if data[at] != c'.' or pointed:
                break
            pointed = True
            at += 1
            continue
        at += 1
        digits += 1
        power -= pointed
        if digit == 0:
            # Held back: a zero counts only once another digit follows it.
            zeros += significant > 0
            continue
        significant += zeros + 1
        if significant <= 19:
            mantissa = mantissa * TEN_TO[zeros + 1] + digit
        zeros = 0
    if digits == 0:
        return NOT_A_NUMBER
    if at < length and not _exponent(data, at, length, &power):
        return NOT_A_NUMBER
    return _scaled(mantissa, significant, power + zeros, negative, value)


cdef bint _exponent(
    const uint8_t* data, Py_ssize_t at, Py_ssize_t length, int* power
) noexcept nogil:
    cdef int exponent = 0
    cdef bint negative = False
    if data[at] != c'e' and data[at] != c'E':
        return False
    at += 1
    if at < length and (data[at] == c'-' or data[at] == c'+'):
        negative = data[at] == c'-'
        at += 1
    if at == length:
        return False
    while at < length:
        if data[at] < c'0' or data[at] > c'9':
            return False
        # Beyond a thousand the answer no longer depends on it.
        if exponent < 1000:
            exponent = exponent * 10 + (data[at] - c'0')
        at += 1
    if negative:
        power[0] -= exponent
    else:
        power[0] += exponent
    return True


cdef uint8_t _scaled(
    uint64_t mantissa, int significant, int power, bint negative, int64_t* value
) noexcept nogil:
    if significant == 0:
        return OK
    if power < 0:
        return TOO_MANY_DECIMALS
    # 19 digits fit in uint64, 20 never fit in int64.
    if significant + power > 19:
        return OUT_OF_RANGE
    mantissa *= TEN_TO[power]
    if mantissa > <uint64_t>INT64_MAX + negative:
        return OUT_OF_RANGE
    if negative:
        value[0] = <int64_t>(0 - mantissa)
    else:
        value[0] = <int64_t>mantissa
    return OK


def format_decimals(const int64_t[::1] values not None, int scale):
    """Format int64[n] of 10**-scale as n canonical decimals: "100", "13.94", "-0.5"."""
    _expect_scale(scale)
    cdef Py_ssize_t start, i, size, n = values.shape[0]
    cdef char slots[CHUNK * SLOT]
    cdef int lengths[CHUNK]
    cdef list texts = [None] * n
    cdef object text
    for start in range(0, n, CHUNK):
        size = min(CHUNK, n - start)
        with nogil:
            for i in range(size):
                lengths[i] = _format(values[start + i], scale, slots + i * SLOT)
        for i in range(size):
            text = PyUnicode_New(lengths[i], 127)
            memcpy(
                <void*>PyUnicode_1BYTE_DATA(text),
                slots + (i + 1) * SLOT - lengths[i],
                lengths[i],
            )
            texts[start + i] = text
    return texts


cdef int _format(int64_t value, int scale, char* slot) noexcept nogil:
    """Write value at the end of its slot; return the number of characters."""
    cdef uint64_t rest = <uint64_t>value
    cdef int decimals = scale, at = SLOT, first
    if value < 0:
        rest = 0 - rest
    while decimals > 0 and rest % 10 == 0:
        rest //= 10
        decimals -= 1
    first = SLOT - decimals
    while at > first:
        at -= 1
        slot[at] = <char>(c'0' + rest % 10)
        rest //= 10
    if decimals > 0:
        at -= 1
        slot[at] = c'.'
    while True:
        at -= 1
        slot[at] = <char>(c'0' + rest % 10)
        rest //= 10
        if rest == 0:
            break
    if value < 0:
        at -= 1
        slot[at] = c'-'
    return SLOT - at


def notional(
    const int64_t[::1] quantity not None,
    const int64_t[::1] price not None,
    const uint8_t[::1] exponent not None,
):
    """Return (amount int64[n] in minor units, status uint8[n]) of quantity x price.

    amount = half_even(quantity * price / 10**(6 + 8 - exponent)), signed like
    the product; OUT_OF_RANGE where it does not fit.
    """
    cdef Py_ssize_t i, n = quantity.shape[0]
    same_length("price", price.shape[0], n)
    _expect_exponents(exponent, n)
    amounts, status = np.empty(n, np.int64), np.empty(n, np.uint8)
    cdef int64_t[::1] amount = amounts
    cdef uint8_t[::1] code = status
    with nogil:
        for i in range(n):
            if notional_one(quantity[i], price[i], exponent[i], &amount[i]):
                code[i] = OK
            else:
                code[i] = OUT_OF_RANGE
    return amounts, status


def money_to_minor(
    const int64_t[::1] units not None,
    const int64_t[::1] nanos not None,
    const uint8_t[::1] exponent not None,
):
    """Convert google.type.Money's units and nanos to (int64[n] minor units, status).

    NOT_A_NUMBER where the signs disagree or |nanos| >= 1e9, TOO_MANY_DECIMALS
    where the currency has fewer decimals than nanos needs, then OUT_OF_RANGE.
    """
    cdef Py_ssize_t i, n = units.shape[0]
    same_length("nanos", nanos.shape[0], n)
    _expect_exponents(exponent, n)
    amounts, status = np.empty(n, np.int64), np.empty(n, np.uint8)
    cdef int64_t[::1] amount = amounts
    cdef uint8_t[::1] code = status
    with nogil:
        for i in range(n):
            code[i] = _to_minor(units[i], nanos[i], exponent[i], &amount[i])
    return amounts, status


cdef uint8_t _to_minor(
    int64_t units, int64_t nanos, int exponent, int64_t* amount
) noexcept nogil:
    cdef int64_t billion = <int64_t>TEN_TO[NANOS_SCALE]
    cdef int64_t tick = <int64_t>TEN_TO[NANOS_SCALE - exponent]
    cdef int128 total
    amount[0] = 0
    if nanos <= -billion or nanos >= billion:
        return NOT_A_NUMBER
    if (units > 0 and nanos < 0) or (units < 0 and nanos > 0):
        return NOT_A_NUMBER
    if nanos % tick != 0:
        return TOO_MANY_DECIMALS
    total = <int128>units * <int128>TEN_TO[exponent] + <int128>(nanos // tick)
    if not fits(total):
        return OUT_OF_RANGE
    amount[0] = <int64_t>total
    return OK


def minor_to_money(
    const int64_t[::1] amount not None, const uint8_t[::1] exponent not None
):
    """Convert minor units to google.type.Money's (units int64[n], nanos int64[n])."""
    cdef Py_ssize_t i, n = amount.shape[0]
    _expect_exponents(exponent, n)
    all_units, all_nanos = np.empty(n, np.int64), np.empty(n, np.int64)
    cdef int64_t[::1] units = all_units, nanos = all_nanos
    with nogil:
        for i in range(n):
            # C truncates towards zero, so both parts carry the amount's sign.
            units[i] = _whole(amount[i], exponent[i])
            nanos[i] = (amount[i] - units[i] * <int64_t>TEN_TO[exponent[i]]) * (
                <int64_t>TEN_TO[NANOS_SCALE - exponent[i]]
            )
    return all_units, all_nanos


cdef inline int64_t _whole(int64_t amount, int exponent) noexcept nogil:
    # Most currencies have two decimals, and by a constant one need not divide.
    if exponent == 2:
        return amount // 100
    return amount // <int64_t>TEN_TO[exponent]


cdef struct Divisor:
    int64_t step
    uint64_t inverse  # of the odd part of the step, modulo 2**64
    int shift  # how often two divides the step
    uint64_t limit  # the largest quotient there can be


def is_multiple(const int64_t[::1] values not None, const int64_t[::1] step not None):
    """Return uint8[n]: 1 where step > 0 divides the value (tick and lot sizes), else 0."""
    cdef Py_ssize_t i, n = values.shape[0]
    same_length("step", step.shape[0], n)
    flags = np.empty(n, np.uint8)
    cdef uint8_t[::1] flag = flags
    cdef Divisor divisor
    cdef int64_t before = 0
    divisor.step = 0
    with nogil:
        for i in range(n):
            if step[i] == divisor.step and step[i] > 0:
                flag[i] = _divides(&divisor, values[i])
            else:
                flag[i] = step[i] > 0 and values[i] % step[i] == 0
                # Prepared once it comes twice in a row: mixed steps would never pay it back.
                if step[i] == before and step[i] > 0:
                    divisor = _prepared(step[i])
                before = step[i]
    return flags


cdef Divisor _prepared(int64_t step) noexcept nogil:
    cdef Divisor divisor
    cdef uint64_t odd
    cdef int i
    divisor.step = step
    divisor.shift = __builtin_ctzll(<uint64_t>step)
    odd = <uint64_t>step >> divisor.shift
    divisor.inverse = odd  # right to 3 bits; each round doubles them
    for i in range(5):
        divisor.inverse *= 2 - odd * divisor.inverse
    divisor.limit = <uint64_t>-1 // <uint64_t>step
    return divisor


cdef inline bint _divides(const Divisor *divisor, int64_t value) noexcept nogil:
    # Without dividing, which takes three times as long: Warren, Hacker's Delight,
    # 10-17. A multiple times the inverse is its quotient, anything else wraps
    # around to more than any quotient.
    cdef uint64_t size = <uint64_t>value if value >= 0 else 0 - <uint64_t>value
    cdef uint64_t quotient = size * divisor.inverse
    # Rotated, so that bits lost to the power of two end up high.
    quotient = (quotient >> divisor.shift) | (quotient << ((64 - divisor.shift) & 63))
    return quotient <= divisor.limit


cdef int _expect_scale(int scale) except -1:
    if not 0 <= scale <= SCALE_MAX:
        raise ValueError(f"scale was {scale}, expected 0 to {SCALE_MAX}")
    return 0


cdef int _expect_exponents(const uint8_t[::1] exponent, Py_ssize_t n) except -1:
    cdef Py_ssize_t i
    cdef uint8_t highest = 0
    same_length("exponent", exponent.shape[0], n)
    with nogil:
        for i in range(n):
            highest = max(highest, exponent[i])
    if highest > EXPONENT_MAX:
        raise ValueError(f"exponent was {highest}, expected 0 to {EXPONENT_MAX}")
    return 0
