from collections.abc import Sequence
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

Int64s: TypeAlias = NDArray[np.int64]
UInt8s: TypeAlias = NDArray[np.uint8]

@final
class Column:
    """One column of a COPY: the values, how to write them, which are NULL."""

    @property
    def rows(self) -> int:
        """Number of rows."""

def int8(values: Int64s, nulls: UInt8s | None = None) -> Column:
    """Return a bigint column."""

def timestamptz(values: Int64s, nulls: UInt8s | None = None) -> Column:
    """Return a timestamptz column of microseconds since 2000-01-01 UTC."""

def int4(values: NDArray[np.int32], nulls: UInt8s | None = None) -> Column:
    """Return an integer column, or a date column of days since 2000-01-01."""

def int2(values: NDArray[np.int16] | UInt8s, nulls: UInt8s | None = None) -> Column:
    """Return a smallint column."""

def boolean(values: UInt8s, nulls: UInt8s | None = None) -> Column:
    """Return a boolean column."""

def uuid(values: bytes, nulls: UInt8s | None = None) -> Column:
    """Return a uuid column of 16 bytes a row."""

def text(index: Int64s, dictionary: Sequence[bytes], nulls: UInt8s | None = None) -> Column:
    """Return a column of dictionary[index[i]], the bytes as they are."""

def encode_copy(columns: Sequence[Column], rows: int) -> bytes:
    """Encode the columns of `rows` rows as one binary COPY payload."""
