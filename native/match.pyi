from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Int32s: TypeAlias = NDArray[np.int32]
Int64s: TypeAlias = NDArray[np.int64]
UInt8s: TypeAlias = NDArray[np.uint8]

ELIGIBLE: Final = 0
OFFLINE: Final = 1
NO_CAPACITY: Final = 2
MISSING_SKILL: Final = 3
EXCLUDED: Final = 4

VALUE_MAX: Final = 1_000_000
WEIGHT_MAX: Final = 1_000
PARTS: Final = 5
COUNT_MAX: Final = 64
WISHED_MAX: Final = 64
RESPONSE_HALF_MS: Final = 60_000
IDLE_HALF_MS: Final = 300_000

def best(
    levels: UInt8s,
    online: UInt8s,
    load: Int32s,
    limit: Int32s,
    response_ms: Int32s,
    idle_ms: Int32s,
    preference: UInt8s,
    required: Int32s,
    required_levels: UInt8s,
    wished: Int32s,
    wished_levels: UInt8s,
    excluded: Int32s,
    weights: Int32s,
    count: int,
) -> tuple[Int32s, Int64s]:
    """Return the columns of the best eligible agents, best first, and their scores."""

def explain(
    levels: UInt8s,
    online: UInt8s,
    load: Int32s,
    limit: Int32s,
    response_ms: Int32s,
    idle_ms: Int32s,
    preference: UInt8s,
    required: Int32s,
    required_levels: UInt8s,
    wished: Int32s,
    wished_levels: UInt8s,
    excluded: Int32s,
    weights: Int32s,
    agents: Int32s,
) -> tuple[Int64s, UInt8s]:
    """Return each agent's values [M, PARTS], before weights, and why he is not eligible."""
