"""Checks that every kernel makes before its loop, with one wording."""

from libc.stdint cimport int64_t


cdef inline int same_length(str name, Py_ssize_t length, Py_ssize_t expected) except -1:
    """Raise ValueError unless the column `name` has the expected length."""
    if length != expected:
        raise ValueError(f"length of {name} was {length}, expected {expected}")
    return 0


cdef inline int indexes_within(
    str name, const int64_t[::1] indexes, Py_ssize_t size
) except -1:
    """Raise IndexError unless 0 <= indexes < size throughout."""
    cdef Py_ssize_t i, count = indexes.shape[0], outside = -1
    with nogil:
        for i in range(count):
            if indexes[i] < 0 or indexes[i] >= size:
                outside = i
                break
    if outside >= 0:
        raise IndexError(
            f"{name}[{outside}] was {indexes[outside]}, expected >= 0 and < {size}"
        )
    return 0
