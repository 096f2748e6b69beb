"""Codes of the sub-accounts, for kernels that cimport them."""

cpdef enum:
    PENDING = 1
    SETTLED = 2
    STREET_PENDING = 3
    STREET_SETTLED = 4
    FEES = 5

cpdef enum:
    OK = 0
    OVERFLOW = 1
