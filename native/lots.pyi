from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Int64s: TypeAlias = NDArray[np.int64]
UInt8s: TypeAlias = NDArray[np.uint8]

OK: Final = 0
INVALID: Final = 1
OVERFLOW: Final = 2

class Applied(NamedTuple):
    """Positions after each of n fills, and the final m positions."""

    after_quantity: Int64s
    after_cost: Int64s
    after_realized: Int64s
    effective_amount: Int64s
    status: UInt8s
    quantity: Int64s
    cost: Int64s
    realized: Int64s

class AppliedLots(NamedTuple):
    """What `Applied` holds, and the final open lots, oldest first, as CSR."""

    after_quantity: Int64s
    after_cost: Int64s
    after_realized: Int64s
    effective_amount: Int64s
    status: UInt8s
    quantity: Int64s
    cost: Int64s
    realized: Int64s
    lot_offsets: Int64s
    lot_quantity: Int64s
    lot_cost: Int64s
    lot_opened: Int64s

def apply_average(
    position: Int64s,
    quantity: Int64s,
    amount: Int64s,
    transfer: UInt8s,
    state_quantity: Int64s,
    state_cost: Int64s,
    state_realized: Int64s,
) -> Applied:
    """Apply n fills, in order, to m positions by average cost."""

def apply_fifo(
    position: Int64s,
    quantity: Int64s,
    amount: Int64s,
    transfer: UInt8s,
    fill_id: Int64s,
    lot_offsets: Int64s,
    lot_quantity: Int64s,
    lot_cost: Int64s,
    lot_opened: Int64s,
    state_realized: Int64s,
) -> AppliedLots:
    """Apply n fills, in order, to m positions' lots, oldest first."""
