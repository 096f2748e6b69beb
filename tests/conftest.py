"""A stack of its own for the tests: other ports, other data, beside any that runs."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from services.stack.lock import locked
from services.stack.settings import StackSettings
from services.stack.stack import Stack

LOCKS = Path(tempfile.gettempdir())
"""Of the slots, which are the machine's, as ports are."""
ROOT = Path(__file__).resolve().parent.parent
SLOTS = range(1, 11)
"""Slot n has its ports n thousand higher; each test run takes a free one."""


@pytest.fixture(scope="session")
def stack_settings() -> Iterator[StackSettings]:
    """Settings of a slot that no other test run holds."""
    with ExitStack() as held:
        for slot in SLOTS:
            try:
                held.enter_context(locked(LOCKS / f"interchange-test-{slot}.lock", wait=False))
            except OSError:
                continue
            yield StackSettings(
                data_dir=ROOT / f".interchange-test-{slot}", port_offset=1000 * slot
            )
            return
        pytest.exit(f"{len(SLOTS)} test runs are under way on this machine already", 2)


@pytest.fixture(scope="session")
def servers(stack_settings: StackSettings) -> Iterator[Stack]:
    """Postgres, Redis and Kafka, empty; services and topics come with `stack`."""
    stack = Stack(stack_settings)
    # What a killed run left behind. The data of a finished one stays, to be looked at.
    stack.down(wipe=True)
    try:
        stack.up(only=["postgres", "redis", "kafka"])
        yield stack
    finally:
        stack.down()


@pytest.fixture(scope="session")
def stack(servers: Stack) -> Stack:
    """The whole stack: servers, migrations, topics, services and Envoy."""
    servers.up()
    return servers
