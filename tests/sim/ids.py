"""Ids that a seed decides."""

import os
from random import Random

from services.common.ids import RandomBytes, Uuid7


class SeededIds(Uuid7):
    """Ids whose random part comes from a seed."""

    def __init__(self, seed: str) -> None:
        super().__init__()
        self._bytes = Random(seed).randbytes

    def batch(self, count: int, now_us: int, random: RandomBytes = os.urandom) -> list[str]:
        return super().batch(count, now_us, self._bytes)
