"""Checks that every kernel makes before its loop, with one wording."""

from libc.stdint cimport int64_t, uint64_t


cdef inline int same_length(str name, Py_ssize_t length, Py_ssize_t expected) except -1:
    """Raise ValueError unless the column `name` has the expected length."""
    if length != expected:
        raise ValueError(f"length of {name} was {length}, expected {expected}")
    return 0


cdef inline int indexes_within(
    str name, const int64_t[::1] indexes, Py_ssize_t size
) except -1:
    """Raise IndexError unless 0 <= indexes < size throughout."""
    cdef Py_ssize_t i, count = indexes.shape[0]
    cdef uint64_t index, sign = 0
    with nogil:
        # No exit from the loop and one sign for both ends, so that gcc vectorises it.
        for i in range(count):
            index = <uint64_t>indexes[i]
            sign |= index | (<uint64_t>(size - 1) - index)
    if sign >> 63 == 0:
        return 0
    for i in range(count):
        if indexes[i] < 0 or indexes[i] >= size:
            raise IndexError(
                f"{name}[{i}] was {indexes[i]}, expected >= 0 and < {size}"
            )
    return 0
