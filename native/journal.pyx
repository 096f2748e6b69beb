"""Double entry journals as columns: every journal sums to zero per asset.

An account has the sub-accounts PENDING (trade date) and SETTLED (settlement
date), their mirrors STREET_PENDING and STREET_SETTLED for the other side, and
FEES. An asset is an int64 that the caller chose; an amount is a signed int64,
of the asset's quantity scale or minor units.

Arrays are C-contiguous and of one length; new ones are returned. Raises
ValueError (dtype, length, layout, a negative fee or size), IndexError (an
index outside its range) and OverflowError (the negative of INT64_MIN), always
before anything is returned.
"""

from typing import NamedTuple

import numpy as np

from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint64_t
from libc.stdlib cimport qsort
from native.check cimport indexes_within, same_length
from native.wide cimport add_overflow, fits, int128


class Entries(NamedTuple):
    """Columns of k entries, adjacent by journal, legs counted from 0."""

    journal: np.ndarray
    leg: np.ndarray
    sub_account: np.ndarray
    asset: np.ndarray
    amount: np.ndarray


cdef struct Pen:
    int64_t* journal
    uint8_t* leg
    uint8_t* sub_account
    int64_t* asset
    int64_t* amount


cdef _blank(Py_ssize_t count, Pen* pen):
    """Return entries to be filled, which must outlive the pen, and put it on the first.

    Columns of a type share an allocation: five views cost less than five arrays,
    and glibc then keeps the memory between calls (it maps and unmaps what is
    larger than it has freed before, and each page costs a fault).
    """
    wide, narrow = np.empty((3, count), np.int64), np.empty((2, count), np.uint8)
    cdef int64_t[:, ::1] wides = wide
    cdef uint8_t[:, ::1] narrows = narrow
    pen.journal = pen.asset = pen.amount = NULL
    pen.leg = pen.sub_account = NULL
    if count > 0:
        pen.journal, pen.asset, pen.amount = &wides[0, 0], &wides[1, 0], &wides[2, 0]
        pen.leg, pen.sub_account = &narrows[0, 0], &narrows[1, 0]
    journal, asset, amount = wide
    leg, sub_account = narrow
    return Entries(journal, leg, sub_account, asset, amount)


cdef inline Pen _pair(
    Pen pen, int64_t journal, uint8_t leg, uint8_t ours, uint8_t theirs,
    int64_t asset, int64_t amount,
) noexcept nogil:
    """Write +amount to one sub-account and -amount to its mirror; move on by two."""
    pen.journal[0] = pen.journal[1] = journal
    pen.leg[0], pen.leg[1] = leg, leg + 1
    pen.sub_account[0], pen.sub_account[1] = ours, theirs
    pen.asset[0] = pen.asset[1] = asset
    pen.amount[0], pen.amount[1] = amount, -amount
    pen.journal += 2
    pen.leg += 2
    pen.sub_account += 2
    pen.asset += 2
    pen.amount += 2
    return pen


def trade_entries(
    const int64_t[::1] security not None,
    const int64_t[::1] cash not None,
    const int64_t[::1] quantity not None,
    const int64_t[::1] amount not None,
    const int64_t[::1] fee not None,
):
    """Write the trade-date journals of n trades, four entries each or six with a fee.

    security and cash are assets; quantity and amount are signed alike (a buy
    is +, pays +); fee >= 0. Legs: security PENDING +q, STREET_PENDING -q; cash
    PENDING -a, STREET_PENDING +a; and cash PENDING -fee, FEES +fee.
    """
    cdef Py_ssize_t i, n = security.shape[0], charged
    same_length("cash", cash.shape[0], n)
    same_length("quantity", quantity.shape[0], n)
    same_length("amount", amount.shape[0], n)
    same_length("fee", fee.shape[0], n)
    _negatable("quantity", quantity)
    _negatable("amount", amount)
    charged = _charged(fee)
    cdef Pen pen
    entries = _blank(4 * n + 2 * charged, &pen)
    with nogil:
        for i in range(n):
            pen = _pair(pen, i, 0, PENDING, STREET_PENDING, security[i], quantity[i])
            pen = _pair(pen, i, 2, PENDING, STREET_PENDING, cash[i], -amount[i])
            if fee[i] != 0:
                pen = _pair(pen, i, 4, PENDING, FEES, cash[i], -fee[i])
    return entries


cdef Py_ssize_t _charged(const int64_t[::1] fee) except -1:
    """Return the number of fees that are not zero."""
    cdef Py_ssize_t i, n = fee.shape[0], charged = 0
    cdef int64_t sign = 0
    with nogil:
        # No exit from the loop, so that gcc vectorises it.
        for i in range(n):
            sign |= fee[i]
            charged += fee[i] != 0
    if sign < 0:
        for i in range(n):
            if fee[i] < 0:
                raise ValueError(f"fee[{i}] was {fee[i]}, expected >= 0")
    return charged


def transfer_entries(
    const int64_t[::1] asset not None, const int64_t[::1] amount not None
):
    """Write the journals of n transfers (deposit +): SETTLED +x, STREET_SETTLED -x."""
    cdef Py_ssize_t i, n = asset.shape[0]
    same_length("amount", amount.shape[0], n)
    _negatable("amount", amount)
    cdef Pen pen
    entries = _blank(2 * n, &pen)
    with nogil:
        for i in range(n):
            pen = _pair(pen, i, 0, SETTLED, STREET_SETTLED, asset[i], amount[i])
    return entries


def reverse(entries not None):
    """Return the entries with every amount negated; the other columns are the same arrays."""
    cdef const int64_t[::1] journal, asset, amount
    cdef const uint8_t[::1] leg, sub_account
    journal, leg, sub_account, asset, amount = entries
    cdef Py_ssize_t i, k = amount.shape[0]
    same_length("journal", journal.shape[0], k)
    same_length("leg", leg.shape[0], k)
    same_length("sub_account", sub_account.shape[0], k)
    same_length("asset", asset.shape[0], k)
    negated = np.empty(k, np.int64)
    cdef int64_t[::1] opposite = negated
    cdef uint64_t value, sign = 0
    with nogil:
        # The check of _negatable, in the pass that writes.
        for i in range(k):
            value = <uint64_t>amount[i]
            opposite[i] = <int64_t>(0 - value)
            sign |= value & (0 - value)
    if sign >> 63:
        _negatable("amount", amount)
    # Columns are not written to once they are returned, so they can be shared.
    return Entries(*tuple(entries)[:4], negated)


cdef int _negatable(str name, const int64_t[::1] values) except -1:
    cdef Py_ssize_t i, count = values.shape[0]
    cdef uint64_t value, sign = 0
    with nogil:
        # The lowest bit of a value is the sign's for INT64_MIN alone. No exit
        # from the loop, so that gcc vectorises it.
        for i in range(count):
            value = <uint64_t>values[i]
            sign |= value & (0 - value)
    if sign >> 63 == 0:
        return 0
    for i in range(count):
        if values[i] == INT64_MIN:
            raise OverflowError(f"{name}[{i}] was {INT64_MIN}, which has no negative")
    return 0


cdef struct Entry:
    int64_t asset
    int64_t amount

# Searching and sorting so few in place beats a call; a trade has four to six.
cdef enum:
    FEW = 16


def unbalanced(
    const int64_t[::1] journal not None,
    const int64_t[::1] asset not None,
    const int64_t[::1] amount not None,
    Py_ssize_t journals,
):
    """Return uint8[journals]: 1 where a journal's sum for some asset is not zero.

    journal[k] is 0 to journals - 1 in any order; ascending is fastest. Sums
    have 128 bits. O(k + journals), and O(g log g) for a journal of g entries.
    """
    cdef Py_ssize_t k = journal.shape[0]
    same_length("asset", asset.shape[0], k)
    same_length("amount", amount.shape[0], k)
    _expect_size("journals", journals)
    indexes_within("journal", journal, journals)
    flags = np.zeros(journals, np.uint8)
    cdef uint8_t[::1] flag = flags
    cdef bint done
    with nogil:
        done = _flag_runs(journal, asset, amount, flag)
    if done:
        return flags
    flags[:] = 0
    cdef Py_ssize_t* end = <Py_ssize_t*>PyMem_Calloc(journals + 1, sizeof(Py_ssize_t))
    cdef Entry* grouped = <Entry*>PyMem_Malloc((k + 1) * sizeof(Entry))
    try:
        if end is NULL or grouped is NULL:
            raise MemoryError
        with nogil:
            _group(journal, asset, amount, journals, end, grouped)
            _flag(journals, end, grouped, flag)
    finally:
        PyMem_Free(end)
        PyMem_Free(grouped)
    return flags


cdef bint _flag_runs(
    const int64_t[::1] journal, const int64_t[::1] asset, const int64_t[::1] amount,
    uint8_t[::1] flag,
) noexcept nogil:
    """Flag journals whose entries are adjacent; give up where they are not.

    Return False as well for a journal of many assets: their sums are searched.
    """
    cdef Py_ssize_t start = 0, end, k = journal.shape[0]
    cdef int64_t[FEW] seen
    cdef int128[FEW] total
    cdef int assets, at
    while start < k:
        assets, end = 0, start
        while end < k and journal[end] == journal[start]:
            at = 0
            while at < assets and seen[at] != asset[end]:
                at += 1
            if at == FEW:
                return False
            if at == assets:
                seen[at], total[at] = asset[end], 0
                assets += 1
            total[at] = total[at] + <int128>amount[end]
            end += 1
        if end < k and journal[end] < journal[start]:
            return False
        for at in range(assets):
            flag[journal[start]] |= total[at] != 0
        start = end
    return True


cdef void _group(
    const int64_t[::1] journal, const int64_t[::1] asset, const int64_t[::1] amount,
    Py_ssize_t journals, Py_ssize_t* end, Entry* grouped,
) noexcept nogil:
    """Counting sort: journal j's entries end up in grouped[end[j - 1]:end[j]]."""
    cdef Py_ssize_t i, at, count, k = journal.shape[0]
    for i in range(k):
        end[journal[i]] += 1
    at = 0
    for i in range(journals):
        count = end[i]
        end[i] = at
        at += count
    for i in range(k):
        at = end[journal[i]]
        end[journal[i]] = at + 1
        grouped[at].asset, grouped[at].amount = asset[i], amount[i]


cdef void _flag(
    Py_ssize_t journals, const Py_ssize_t* end, Entry* grouped, uint8_t[::1] flag
) noexcept nogil:
    cdef Py_ssize_t j, i, start = 0
    cdef int128 total
    for j in range(journals):
        _by_asset(grouped + start, end[j] - start)
        total = 0
        for i in range(start, end[j]):
            if i > start and grouped[i].asset != grouped[i - 1].asset:
                if total != 0:
                    break
            total = total + <int128>grouped[i].amount
        flag[j] = total != 0
        start = end[j]


cdef void _by_asset(Entry* entries, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i, at
    cdef Entry moved
    if count > FEW:
        qsort(entries, count, sizeof(Entry), _compare)
        return
    for i in range(1, count):
        moved = entries[i]
        at = i
        while at > 0 and entries[at - 1].asset > moved.asset:
            entries[at] = entries[at - 1]
            at -= 1
        entries[at] = moved


cdef int _compare(const void* one, const void* other) noexcept nogil:
    cdef int64_t left = (<const Entry*>one).asset, right = (<const Entry*>other).asset
    return (left > right) - (left < right)


def totals(
    const int64_t[::1] slot not None, const int64_t[::1] amount not None, Py_ssize_t slots
):
    """Return (sum int64[slots], status uint8[slots]) of the amounts of each slot.

    slot[k] is 0 to slots - 1. Sums have 128 bits; where the result does not
    fit in int64 its status is OVERFLOW and its value 0.
    """
    same_length("amount", amount.shape[0], slot.shape[0])
    _expect_size("slots", slots)
    indexes_within("slot", slot, slots)
    sums, status = np.zeros(slots, np.int64), np.zeros(slots, np.uint8)
    cdef int64_t[::1] narrow = sums
    cdef uint8_t[::1] code = status
    cdef int64_t* spare = <int64_t*>PyMem_Calloc(max(slots, 1), sizeof(int64_t))
    cdef int128* wide
    cdef bint done
    if spare is NULL:
        raise MemoryError
    with nogil:
        done = _sum_narrow(slot, amount, narrow, spare)
    PyMem_Free(spare)
    if done:
        return sums, status
    wide = <int128*>PyMem_Calloc(max(slots, 1), sizeof(int128))
    if wide is NULL:
        raise MemoryError
    with nogil:
        _sum_wide(slot, amount, wide, narrow, code)
    PyMem_Free(wide)
    return sums, status


cdef bint _sum_narrow(
    const int64_t[::1] slot, const int64_t[::1] amount, int64_t[::1] narrow, int64_t* spare
) noexcept nogil:
    """Sum in 64 bits, which is all that most books take; return False where one wrapped.

    Neighbours are often of one slot, and to add to what was just stored waits
    for the store: every other entry is summed in `spare`.
    """
    cdef Py_ssize_t i, k = slot.shape[0]
    cdef bint wrapped = False
    for i in range(0, k - 1, 2):
        wrapped |= add_overflow(narrow[slot[i]], amount[i], &narrow[slot[i]])
        wrapped |= add_overflow(spare[slot[i + 1]], amount[i + 1], &spare[slot[i + 1]])
    if k % 2 == 1:
        wrapped |= add_overflow(narrow[slot[k - 1]], amount[k - 1], &narrow[slot[k - 1]])
    for i in range(narrow.shape[0]):
        wrapped |= add_overflow(narrow[i], spare[i], &narrow[i])
    return not wrapped


cdef void _sum_wide(
    const int64_t[::1] slot, const int64_t[::1] amount, int128* wide,
    int64_t[::1] narrow, uint8_t[::1] code,
) noexcept nogil:
    """Sum in 128 bits, and narrow what fits."""
    cdef Py_ssize_t i, k = slot.shape[0], slots = narrow.shape[0]
    for i in range(k):
        wide[slot[i]] = wide[slot[i]] + <int128>amount[i]
    for i in range(slots):
        if fits(wide[i]):
            narrow[i] = <int64_t>wide[i]
        else:
            narrow[i], code[i] = 0, OVERFLOW


cdef int _expect_size(str name, Py_ssize_t size) except -1:
    if size < 0:
        raise ValueError(f"{name} was {size}, expected >= 0")
    return 0
