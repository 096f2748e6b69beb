"""The door of the running stack, for every scenario here."""

from collections.abc import AsyncIterator

import pytest_asyncio

from services.stack.stack import Stack
from tests.e2e.door import Door, opened


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def door(stack: Stack) -> AsyncIterator[Door]:
    async with opened(stack) as door:
        yield door
