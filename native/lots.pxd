"""The arithmetic of one fill, shared by average cost and FIFO."""

from libc.stdint cimport int64_t
from native.wide cimport fits, half_even, int128, magnitude

cpdef enum:
    OK = 0
    INVALID = 1
    OVERFLOW = 2

cdef struct Position:
    int64_t quantity
    int64_t cost
    int64_t realized

# How a fill divides: `closed` units (>= 0) against what is held, the rest open.
cdef struct Split:
    int128 closed
    int128 close_amount
    int64_t open_quantity
    int64_t open_amount


cdef inline Split split(int64_t held, int64_t quantity, int64_t amount) noexcept nogil:
    """Divide a fill (quantity != 0) into its closing and its opening part."""
    cdef Split part
    cdef int128 filled = magnitude(quantity), closed = magnitude(held)
    if held == 0 or (held < 0) == (quantity < 0):
        closed = 0
    elif closed > filled:
        closed = filled
    part.closed = closed
    part.close_amount = <int128>amount
    if closed != filled:
        part.close_amount = half_even(<int128>amount * closed, filled)
    if quantity < 0:
        part.open_quantity = <int64_t>(<int128>quantity + closed)
    else:
        part.open_quantity = <int64_t>(<int128>quantity - closed)
    part.open_amount = <int64_t>(<int128>amount - part.close_amount)
    return part


cdef inline bint book(
    Position* position, const Split* part, int64_t quantity,
    int128 removed, bint transfer, int64_t* effective,
) noexcept nogil:
    """Apply a fill whose closing part removes `removed` of cost.

    Return False, and leave everything as it was, where a result overflows.
    """
    cdef int128 held = <int128>position.quantity + <int128>quantity
    cdef int128 cost = <int128>position.cost + <int128>part.open_amount - removed
    cdef int128 realized = <int128>position.realized
    cdef int128 amount = <int128>part.open_amount - removed
    if not transfer:
        realized = realized - (part.close_amount + removed)
        amount = <int128>part.open_amount + part.close_amount
    if not (fits(held) and fits(cost) and fits(realized) and fits(amount)):
        return False
    position.quantity = <int64_t>held
    position.cost = <int64_t>cost
    position.realized = <int64_t>realized
    effective[0] = <int64_t>amount
    return True
