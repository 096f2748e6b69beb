from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Int64s: TypeAlias = NDArray[np.int64]
UInt8s: TypeAlias = NDArray[np.uint8]

QUANTITY_SCALE: Final = 6
PRICE_SCALE: Final = 8
NANOS_SCALE: Final = 9
EXPONENT_MAX: Final = 4
SCALE_MAX: Final = 18
TEXT_LENGTH_MAX: Final = 64

OK: Final = 0
NOT_A_NUMBER: Final = 1
TOO_MANY_DECIMALS: Final = 2
OUT_OF_RANGE: Final = 3

def parse_decimals(texts: Sequence[str], scale: int) -> tuple[Int64s, UInt8s]:
    """Parse n decimal strings to (values, status) at a scale of 0 to 18."""

def format_decimals(values: Int64s, scale: int) -> list[str]:
    """Format n scaled values in canonical minimal form."""

def notional(quantity: Int64s, price: Int64s, exponent: UInt8s) -> tuple[Int64s, UInt8s]:
    """Multiply to (amount in minor units, status), half-even."""

def money_to_minor(units: Int64s, nanos: Int64s, exponent: UInt8s) -> tuple[Int64s, UInt8s]:
    """Convert google.type.Money to (amount in minor units, status)."""

def minor_to_money(amount: Int64s, exponent: UInt8s) -> tuple[Int64s, Int64s]:
    """Convert minor units to google.type.Money's (units, nanos)."""

def is_multiple(values: Int64s, step: Int64s) -> UInt8s:
    """Flag the values that a positive step divides."""
