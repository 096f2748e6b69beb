"""The door of the running stack, and its tables, for every scenario here."""

from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio

from services.stack.stack import Stack
from tests.e2e.door import Door, opened


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def door(stack: Stack) -> AsyncIterator[Door]:
    """Where callers come in."""
    async with opened(stack) as door:
        yield door


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(stack: Stack) -> AsyncIterator[asyncpg.Connection]:
    """Everything that is stored, seen by who may see all.

    For one module: other modules kill Postgres.
    """
    connection = await asyncpg.connect(stack.database_url())
    yield connection
    await connection.close()
