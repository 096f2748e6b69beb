"""Compares what is kept with what the events make of it, byte for byte."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import NamedTuple

from services.common.db import Connection
from services.position import copied, encoding, replay
from services.position.fills import AccountId
from services.position.replay import Account, Rebuilt

FILLS_A_PART = 20_000
DIFFERENCES_SHOWN = 20


class Table(NamedTuple):
    """A table that is compared."""

    name: str
    columns: Sequence[str]
    key: Sequence[str]


TABLES = (
    Table("positions", encoding.POSITIONS, encoding.POSITIONS[:3]),
    Table("lots", encoding.LOTS, encoding.LOTS[:4]),
    Table("changes", encoding.CHANGES, encoding.CHANGES[:3]),
)


@dataclass(slots=True)
class Report:
    """What a rebuild found."""

    events: int = 0
    unreadable: int = 0
    """Events that no position can take: they are parked, or were skipped."""
    accounts: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    digests: dict[str, tuple[str, str]] = field(default_factory=dict)
    """SHA-256 of each table as it is kept and as it was rebuilt."""
    differences: list[str] = field(default_factory=list)
    differing: int = 0
    replaced: int = 0

    @property
    def equal(self) -> bool:
        """Tell whether every byte agrees."""
        return not self.differing

    def differ(self, what: str) -> None:
        """Count a difference and keep the first ones."""
        self.differing += 1
        if len(self.differences) < DIFFERENCES_SHOWN:
            self.differences.append(what)


class Comparison:
    """Compares accounts, some at a time."""

    def __init__(
        self,
        events: Connection,
        live: Connection,
        methods: Mapping[AccountId, bool],
        report: Report,
    ) -> None:
        self._events = events
        self._live = live
        self._methods = methods
        self._report = report
        self._hashes = {t.name: (hashlib.sha256(), hashlib.sha256()) for t in TABLES}

    async def compare(self, part: Sequence[Account]) -> bool:
        """Compare the rows of accounts; tell whether every byte agrees."""
        rebuilt = await self._rebuilt(part)
        differences = list(rebuilt.differences)
        for table in TABLES:
            kept, made = await self._kept(part, table), rebuilt.payloads[table.name]
            differences += _difference(table, kept, made)
            for hashed, payload in zip(self._hashes[table.name], (kept, made), strict=True):
                hashed.update(payload)
            count = sum(1 for _ in copied.rows(kept))
            self._report.rows[table.name] = self._report.rows.get(table.name, 0) + count
        self._report.accounts += len(part)
        for difference in differences:
            self._report.differ(difference)
        return not differences

    def finish(self) -> None:
        """Report the digests of all that was compared."""
        for name, (kept, made) in self._hashes.items():
            self._report.digests[name] = kept.hexdigest(), made.hexdigest()

    async def replace(self, part: Iterable[Account]) -> None:
        """Put what the events make in the place of what is kept, where they differ."""
        for account in part:
            rebuilt = await self._rebuilt([account])
            same = not rebuilt.differences
            for table in TABLES:
                kept = await self._kept([account], table)
                same = same and kept == rebuilt.payloads[table.name]
            if not same:
                await replay.replace(rebuilt, self._live)
                self._report.replaced += 1

    async def count_orphans(self, tenant_id: str) -> None:
        """Find rows whose account has none: nobody would have compared them."""
        for table in TABLES:
            count = await self._live.fetchval(
                f"SELECT count(*) FROM position.{table.name} AS t "
                "WHERE ($1 = '' OR tenant_id = $1) AND NOT EXISTS "
                "(SELECT FROM position.accounts AS a "
                "WHERE a.tenant_id = t.tenant_id AND a.account_id = t.account_id)",
                tenant_id,
            )
            if count:
                self._report.differ(f"{table.name}: {count} rows belong to no account")

    async def _rebuilt(self, part: Sequence[Account]) -> Rebuilt:
        return await replay.replay(part, self._methods, self._events, self._live)

    async def _kept(self, part: Sequence[Account], table: Table) -> bytes:
        """Return the rows of a table as Postgres copies them out, by their key."""
        order = ", ".join(
            f't.{name} COLLATE "C"' if name in copied.TEXTS else f"t.{name}" for name in table.key
        )
        query = (
            f"SELECT {', '.join('t.' + name for name in table.columns)} "
            "FROM unnest($1::text[], $2::text[]) AS w(tenant_id, account_id) "
            f"JOIN position.{table.name} AS t USING (tenant_id, account_id) ORDER BY {order}"
        )
        target = BytesIO()
        await self._live.copy_from_query(query, *replay.names(part), output=target, format="binary")
        return target.getvalue()


def _difference(table: Table, kept: bytes, made: bytes) -> Iterable[str]:
    if kept != made:
        names = table.columns
        key, here, there = copied.first_difference(kept, made, names, len(table.key))
        yield f"{table.name} {key}: kept {here}; rebuilt {there}"


def parts(accounts: Sequence[Account]) -> Iterable[list[Account]]:
    """Yield accounts in groups of a bounded number of fills."""
    part: list[Account] = []
    size = 0
    for account in accounts:
        part.append(account)
        size += account.sequence + 1
        if size >= FILLS_A_PART:
            yield part
            part, size = [], 0
    if part:
        yield part
