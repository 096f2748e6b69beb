"""Positions out of fills, by average cost and by first in, first out.

Quantities are signed int64 (buy +, sell -), amounts signed int64 minor units
with the sign of the quantity (paid +, received -). A position is a quantity
q, its open cost c, signed like q, and what was realized so far, r.

A fill (fq, a) against a position of the other sign closes
closed = min(|fq|, |q|) and opens the rest; crossing zero is a close, then an
open. With a_close = half_even(a * closed / |fq|) and `removed` the cost that
leaves, r -= a_close + removed and c += (a - a_close) - removed. Hence
r - c == -sum(a), exactly, whatever was rounded. A transfer moves securities
without a sale: its closing part leaves at cost (-removed instead of a_close)
and realizes nothing; the law then holds for the effective amounts.

A fill of quantity 0 is INVALID and a result outside int64 is OVERFLOW: such a
fill changes nothing, its effective amount is 0, and the next fill goes on
from the position before. What is wrong with the call itself raises
ValueError, TypeError or, for an index, IndexError, before any fill applies.
"""

from typing import NamedTuple

import numpy as np

from libc.stdint cimport int64_t, uint8_t
from native.check cimport indexes_within, same_length


class Applied(NamedTuple):
    """Positions after each of n fills, and the final m positions."""

    after_quantity: np.ndarray
    after_cost: np.ndarray
    after_realized: np.ndarray
    effective_amount: np.ndarray
    status: np.ndarray
    quantity: np.ndarray
    cost: np.ndarray
    realized: np.ndarray


class AppliedLots(NamedTuple):
    """What `Applied` holds, and the final open lots, oldest first, as CSR."""

    after_quantity: np.ndarray
    after_cost: np.ndarray
    after_realized: np.ndarray
    effective_amount: np.ndarray
    status: np.ndarray
    quantity: np.ndarray
    cost: np.ndarray
    realized: np.ndarray
    lot_offsets: np.ndarray
    lot_quantity: np.ndarray
    lot_cost: np.ndarray
    lot_opened: np.ndarray


cdef class Fills:
    """The columns of n fills, checked, and the arrays their results go to."""

    cdef Py_ssize_t count
    cdef const int64_t[::1] position, quantity, amount
    cdef const uint8_t[::1] transfer
    cdef int64_t[::1] after_quantity, after_cost, after_realized, effective
    cdef uint8_t[::1] status
    cdef tuple results

    def __cinit__(
        self,
        const int64_t[::1] position,
        const int64_t[::1] quantity,
        const int64_t[::1] amount,
        const uint8_t[::1] transfer,
        Py_ssize_t positions,
    ):
        cdef Py_ssize_t n = position.shape[0]
        self.count = n
        same_length("quantity", quantity.shape[0], n)
        same_length("amount", amount.shape[0], n)
        same_length("transfer", transfer.shape[0], n)
        indexes_within("position", position, positions)
        self.position, self.quantity = position, quantity
        self.amount, self.transfer = amount, transfer
        self.results = (
            *(np.empty(n, np.int64) for _ in range(4)), np.empty(n, np.uint8)
        )
        self.after_quantity, self.after_cost, self.after_realized = self.results[:3]
        self.effective, self.status = self.results[3:]

    cdef inline void note(
        self, Py_ssize_t i, const Position* after, int64_t effective, uint8_t status
    ) noexcept nogil:
        self.after_quantity[i] = after.quantity
        self.after_cost[i] = after.cost
        self.after_realized[i] = after.realized
        self.effective[i] = effective
        self.status[i] = status


def apply_average(
    const int64_t[::1] position not None,
    const int64_t[::1] quantity not None,
    const int64_t[::1] amount not None,
    const uint8_t[::1] transfer not None,
    const int64_t[::1] state_quantity not None,
    const int64_t[::1] state_cost not None,
    const int64_t[::1] state_realized not None,
):
    """Apply n fills, in order, to m positions by average cost; return Applied.

    position[n] indexes the state arrays [m]; transfer[n] is 1 for transfers.
    A close removes half_even(c * closed / |q|) of cost, all of it at the end.
    """
    cdef Py_ssize_t m = state_quantity.shape[0]
    same_length("state_cost", state_cost.shape[0], m)
    same_length("state_realized", state_realized.shape[0], m)
    cdef Fills fills = Fills(position, quantity, amount, transfer, m)
    final = np.array(state_quantity), np.array(state_cost), np.array(state_realized)
    cdef int64_t[::1] q = final[0], c = final[1], r = final[2]
    with nogil:
        _average(fills, q, c, r)
    return Applied(*fills.results, *final)


cdef void _average(
    Fills fills, int64_t[::1] q, int64_t[::1] c, int64_t[::1] r
) noexcept nogil:
    cdef Py_ssize_t i, at
    cdef Position held
    cdef Split part
    cdef int128 removed
    cdef int64_t effective
    cdef uint8_t status
    for i in range(fills.count):
        at = fills.position[i]
        held.quantity, held.cost, held.realized = q[at], c[at], r[at]
        effective, status = 0, INVALID
        if fills.quantity[i] != 0:
            part = split(held.quantity, fills.quantity[i], fills.amount[i])
            removed = 0
            if part.closed != 0:
                removed = <int128>held.cost
                if part.closed != magnitude(held.quantity):
                    removed = half_even(
                        removed * part.closed, magnitude(held.quantity)
                    )
            status = OVERFLOW
            if book(
                &held, &part, fills.quantity[i], removed,
                fills.transfer[i] != 0, &effective,
            ):
                status = OK
                q[at], c[at], r[at] = held.quantity, held.cost, held.realized
        fills.note(i, &held, effective, status)


cdef class Queues:
    """Open lots of m positions as linked queues in one pool of k + n slots.

    A fill opens one lot at most, so the pool never grows, and a slot is never
    used twice, so consuming is moving a head.
    """

    cdef Py_ssize_t used
    cdef int64_t[::1] head, tail, follower, quantity, cost, opened

    def __cinit__(self, offsets, lot_quantity, lot_cost, lot_opened, Py_ssize_t fills):
        cdef const int64_t[::1] offset = offsets
        cdef Py_ssize_t at, m = offset.shape[0] - 1
        self.used = len(lot_quantity)
        room = np.empty(fills, np.int64)
        self.quantity = np.concatenate([lot_quantity, room])
        self.cost = np.concatenate([lot_cost, room])
        self.opened = np.concatenate([lot_opened, room])
        self.follower = np.arange(1, self.used + fills + 1, dtype=np.int64)
        self.head, self.tail = np.full(m, -1, np.int64), np.full(m, -1, np.int64)
        with nogil:
            for at in range(m):
                if offset[at] < offset[at + 1]:
                    self.head[at] = offset[at]
                    self.tail[at] = offset[at + 1] - 1
                    self.follower[self.tail[at]] = -1

    cdef inline void append(
        self, Py_ssize_t at, int64_t quantity, int64_t cost, int64_t opened
    ) noexcept nogil:
        cdef Py_ssize_t slot = self.used
        self.quantity[slot], self.cost[slot] = quantity, cost
        self.opened[slot], self.follower[slot] = opened, -1
        if self.head[at] < 0:
            self.head[at] = slot
        else:
            self.follower[self.tail[at]] = slot
        self.tail[at] = slot
        self.used += 1

    cdef inline int128 walk(
        self, Py_ssize_t at, int128 closed, int64_t* slot, int128* taken, int128* cut
    ) noexcept nogil:
        """Return the cost of the `closed` oldest units, and where they end.

        Nothing changes yet: the fill may still overflow. `slot` is the new
        head, of which `taken` units and `cut` cost are to go.
        """
        cdef int128 removed = 0, size
        slot[0], taken[0], cut[0] = self.head[at], 0, 0
        while closed > 0:
            size = magnitude(self.quantity[slot[0]])
            if closed < size:
                taken[0] = closed
                cut[0] = half_even(<int128>self.cost[slot[0]] * closed, size)
                return removed + cut[0]
            removed = removed + <int128>self.cost[slot[0]]
            closed = closed - size
            slot[0] = self.follower[slot[0]]
        return removed

    cdef inline void consume(
        self, Py_ssize_t at, int64_t slot, int128 taken, int128 cut
    ) noexcept nogil:
        self.head[at] = slot
        if slot < 0 or taken == 0:
            return
        if self.quantity[slot] < 0:
            taken = -taken
        self.quantity[slot] = <int64_t>(<int128>self.quantity[slot] - taken)
        self.cost[slot] = <int64_t>(<int128>self.cost[slot] - cut)

    cdef tuple rows(self):
        """Return the open lots as CSR: (offsets, quantity, cost, opened)."""
        cdef Py_ssize_t at, count = 0, m = self.head.shape[0]
        cdef int64_t slot
        offsets = np.empty(m + 1, np.int64)
        cdef int64_t[::1] offset = offsets
        order = np.empty(self.used, np.int64)
        cdef int64_t[::1] slots = order
        with nogil:
            offset[0] = 0
            for at in range(m):
                slot = self.head[at]
                while slot >= 0:
                    slots[count] = slot
                    count += 1
                    slot = self.follower[slot]
                offset[at + 1] = count
        order = order[:count]
        return (
            offsets,
            np.asarray(self.quantity)[order],
            np.asarray(self.cost)[order],
            np.asarray(self.opened)[order],
        )


def apply_fifo(
    const int64_t[::1] position not None,
    const int64_t[::1] quantity not None,
    const int64_t[::1] amount not None,
    const uint8_t[::1] transfer not None,
    const int64_t[::1] fill_id not None,
    const int64_t[::1] lot_offsets not None,
    const int64_t[::1] lot_quantity not None,
    const int64_t[::1] lot_cost not None,
    const int64_t[::1] lot_opened not None,
    const int64_t[::1] state_realized not None,
):
    """Apply n fills, in order, to m positions' lots, oldest first; return AppliedLots.

    Position p owns lots lot_offsets[p] to lot_offsets[p + 1] of the k lots
    given, all of one sign, none of quantity 0; its quantity and cost are their
    sums. A lot opened by fill i carries fill_id[i], which is not interpreted.
    A lot that is used in part loses half_even(lot_cost * used / |lot_quantity|).
    Linear in n + m + k.
    """
    cdef Py_ssize_t m = state_realized.shape[0], k = lot_quantity.shape[0]
    same_length("lot_offsets", lot_offsets.shape[0], m + 1)
    same_length("lot_cost", lot_cost.shape[0], k)
    same_length("lot_opened", lot_opened.shape[0], k)
    same_length("fill_id", fill_id.shape[0], position.shape[0])
    cdef Fills fills = Fills(position, quantity, amount, transfer, m)
    final = np.empty(m, np.int64), np.empty(m, np.int64), np.array(state_realized)
    cdef int64_t[::1] q = final[0], c = final[1], r = final[2]
    _sum_lots(lot_offsets, lot_quantity, lot_cost, q, c)
    cdef Queues queues = Queues(
        lot_offsets, lot_quantity, lot_cost, lot_opened, fills.count
    )
    with nogil:
        _fifo(fills, queues, fill_id, q, c, r)
    return AppliedLots(*fills.results, *final, *queues.rows())


cdef void _fifo(
    Fills fills, Queues queues, const int64_t[::1] fill_id,
    int64_t[::1] q, int64_t[::1] c, int64_t[::1] r,
) noexcept nogil:
    cdef Py_ssize_t i, at
    cdef Position held
    cdef Split part
    cdef int128 removed, taken, cut
    cdef int64_t slot, effective
    cdef uint8_t status
    for i in range(fills.count):
        at = fills.position[i]
        held.quantity, held.cost, held.realized = q[at], c[at], r[at]
        effective, status = 0, INVALID
        if fills.quantity[i] != 0:
            part = split(held.quantity, fills.quantity[i], fills.amount[i])
            removed = queues.walk(at, part.closed, &slot, &taken, &cut)
            status = OVERFLOW
            if book(
                &held, &part, fills.quantity[i], removed,
                fills.transfer[i] != 0, &effective,
            ):
                status = OK
                queues.consume(at, slot, taken, cut)
                if part.open_quantity != 0:
                    queues.append(
                        at, part.open_quantity, part.open_amount, fill_id[i]
                    )
                q[at], c[at], r[at] = held.quantity, held.cost, held.realized
        fills.note(i, &held, effective, status)


cdef int _sum_lots(
    const int64_t[::1] offset, const int64_t[::1] lot_quantity,
    const int64_t[::1] lot_cost, int64_t[::1] q, int64_t[::1] c,
) except -1:
    """Check the CSR form and sum each position's lots into q and c."""
    cdef Py_ssize_t at, i, m = q.shape[0], k = lot_quantity.shape[0], wrong = -1
    cdef int128 quantity, cost
    if offset[0] != 0 or offset[m] != k:
        raise ValueError(f"lot_offsets were {offset[0]} to {offset[m]}, expected 0 to {k}")
    with nogil:
        for at in range(m):
            if offset[at] > offset[at + 1] or offset[at + 1] > k:
                wrong = at
                break
            quantity, cost = 0, 0
            for i in range(offset[at], offset[at + 1]):
                if lot_quantity[i] == 0 or (
                    (lot_quantity[i] < 0) != (lot_quantity[offset[at]] < 0)
                ):
                    wrong = at
                quantity = quantity + <int128>lot_quantity[i]
                cost = cost + <int128>lot_cost[i]
            if not (fits(quantity) and fits(cost)):
                wrong = at
            if wrong >= 0:
                break
            q[at], c[at] = <int64_t>quantity, <int64_t>cost
    if wrong >= 0:
        raise ValueError(
            f"lots of position {wrong} were malformed, expected ascending offsets,"
            " quantities of one sign and sums within int64"
        )
    return 0
