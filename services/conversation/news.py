"""News of conversations after a commit: to the watchers here, and to followers elsewhere."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from interchange.gateway.v1.gateway_pb2 import Push

Changed = tuple[str, str, int]
"""Tenant, conversation and version."""


class News(Protocol):
    """Told of what was committed; the fake of the unit tests remembers it."""

    def changed(self, changes: Iterable[Changed]) -> None:
        """Tell, and return at once. A change that was rolled back does no harm."""
        ...


class PushedNews(News):
    """Wakes the watchers of this process and pushes to the others."""

    def __init__(
        self, wake: Callable[[Sequence[Changed]], None], push: Callable[[Sequence[Push]], None]
    ) -> None:
        self._wake = wake
        self._push = push

    def changed(self, changes: Iterable[Changed]) -> None:
        """Tell, and return at once."""
        told = list(changes)
        if not told:
            return
        self._wake(told)
        self._push(
            [
                Push(tenant_id=tenant, conversation_id=conversation, conversation_version=version)
                for tenant, conversation, version in told
            ]
        )
