"""What the use cases need of the world around them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from interchange.gateway.v1.gateway_pb2 import Push

from services.common.clock import BusinessClock
from services.common.ids import Uuid7
from services.common.personal import Keys
from services.common.work import WorkUnits
from services.message.repository import Messages

Units: TypeAlias = WorkUnits[Messages]
Tell: TypeAlias = Callable[[Iterable[Push]], None]
"""Tells followers after a commit; returns at once and never raises."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Database, keys, time, ids, and whom to tell."""

    uow: Units
    keys: Keys
    clock: BusinessClock
    ids: Uuid7
    push: Tell
