"""What the benchmarks share: a stack of their own, the accounts of a day, and a caller."""

import asyncio
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
from rich.console import Console

from services.stack.edge import Edge
from services.stack.lock import locked
from services.stack.progress import Progress
from services.stack.settings import StackSettings
from services.stack.stack import Stack
from services.stack.waiting import until_posted, until_tradable
from tests.load import day

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = ROOT / ".interchange-bench"
PORT_OFFSET = 12_700
"""Beyond those of the tests; --port-offset says another."""
TENANT = "bench"
SUBJECT = "bench"
ROLE = "operations"
PATIENCE_S = 120.0
HELD_PAUSE_S = 0.05

# One row an account and service: cheaper to ask than a thousand watermarks, so
# that the asking does not slow what is measured.
_HELD = """
SELECT least(
    (SELECT coalesce(sum(sequence), 0) FROM position.inbox_sequences
     WHERE tenant_id = $1 AND topic = 'trade-events'),
    (SELECT coalesce(sum(sequence), 0) FROM ledger.inbox_sequences
     WHERE tenant_id = $1 AND topic = 'trade-events')
)::bigint
"""


class Wrong(Exception):
    """The stack did something other than what was asked: no time is worth printing."""


class Scene:
    """A stack that is started as far as a benchmark needs it."""

    def __init__(self, stack: Stack, quick: bool) -> None:
        self.stack = stack
        self.quick = quick
        self.data: Path | None = None
        """Where the data lies that is no part of the project, if it was given."""
        self._inhabited = False
        self._whole = False

    def say(self, text: str) -> None:
        """Print a line of progress."""
        print(f"  {text}", flush=True)

    def start(self, only: Collection[str] | None = None) -> None:
        """Start the stack, or some of its servers; what runs stays."""
        if self._whole:
            return
        with Progress(Console(highlight=False)) as progress:
            self.stack.up(only=only, report=progress.report)
        self._whole = only is None

    async def inhabit(self) -> None:
        """Create the accounts and instruments of the day, and wait until trades know them."""
        if self._inhabited:
            return
        async with self.edge() as edge:
            await edge.create_instruments()
            if refused := await edge.create_accounts(day.accounts()):
                raise Wrong(f"{len(refused)} accounts were refused: {next(iter(refused.items()))}")
            await until_tradable(edge, day.ACCOUNTS, [name for name, *_ in day.INSTRUMENTS])
        self._inhabited = True

    def edge(self) -> Edge:
        """Return a caller at the edge."""
        return Edge(self.stack, TENANT, SUBJECT, PATIENCE_S)

    @property
    def target(self) -> str:
        """Envoy's address."""
        return f"127.0.0.1:{self.stack.settings.edge_port}"

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what a call through Envoy carries."""
        return (("authorization", f"Bearer {self.stack.token(TENANT, [ROLE], SUBJECT)}"),)

    def direct(self, service: str) -> str:
        """Return the address of a service, past Envoy."""
        return f"127.0.0.1:{self.stack.settings.service_ports[service]}"

    @staticmethod
    def direct_metadata() -> tuple[tuple[str, str], ...]:
        """Return what Envoy would tell the service of the caller."""
        return (
            ("x-interchange-tenant", TENANT),
            ("x-interchange-subject", SUBJECT),
            ("x-interchange-roles", ROLE),
        )

    async def admin(self) -> "asyncpg.Connection[asyncpg.Record]":
        """Return a connection of the superuser: to look on, and to fill tables."""
        return await asyncpg.connect(self.stack.database_url())

    async def until_held(self, total: int) -> float:
        """Wait until position and ledger hold so many trades; return when, by the clock."""
        connection = await self.admin()
        try:
            seen, since = -1, time.perf_counter()
            while (held := await connection.fetchval(_HELD, TENANT)) < total:
                if held > seen:
                    seen, since = held, time.perf_counter()
                elif time.perf_counter() - since > PATIENCE_S:
                    raise Wrong(f"position and ledger stand at {held:,} of {total:,} trades")
                await asyncio.sleep(HELD_PAUSE_S)
            return time.perf_counter()
        finally:
            await connection.close()

    async def held_by_watermarks(self, last: dict[str, int]) -> None:
        """Make sure, as a caller would, that each account's last trade is held."""
        async with self.edge() as edge:
            await until_posted(edge, last)

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        """Return the rows of a query of the superuser."""
        connection = await self.admin()
        try:
            return list(await connection.fetch(query, *arguments))
        finally:
            await connection.close()


@contextmanager
def scene(quick: bool, port_offset: int) -> Iterator[Scene]:
    """Give a stack with empty data, not started; stop it in the end. Its data stays."""
    with locked(ROOT / "build" / "bench.lock", wait=False):
        stack = Stack(settings(DATA, port_offset))
        stack.down(wipe=True)
        try:
            yield Scene(stack, quick)
        finally:
            stack.down()


def settings(data: Path, offset: int, **more: Any) -> StackSettings:
    """Return the settings of a stack that shares nothing, whatever the environment says."""
    return StackSettings(
        data_dir=data,
        port_offset=offset,
        database_url="",
        redis_url="",  # type: ignore[arg-type]
        kafka_bootstrap="",
        **more,
    )


def listens(port: int) -> bool:
    """Tell whether somebody takes connections on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
