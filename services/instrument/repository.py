"""All SQL of the instrument service."""

from collections.abc import Sequence
from typing import Protocol

import asyncpg

from services.common import outbox
from services.common.db import Connection
from services.common.errors import AlreadyExists, Violation
from services.common.requests import PostgresRequests, Requests
from services.instrument.domain import Instrument, Status
from services.instrument.rules import Terms

_COLUMNS = """instrument_id, symbol, name, isin, cusip, figi, mic, currency, lot_size_micros,
    tick_size_e8, calendar, status, version, create_time, update_time"""

_INSERT = f"""
INSERT INTO instrument.instruments (tenant_id, {_COLUMNS})
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
"""

_UPDATE = """
UPDATE instrument.instruments
SET symbol = $3, name = $4, isin = $5, cusip = $6, figi = $7, lot_size_micros = $8,
    tick_size_e8 = $9, calendar = $10, status = $11, version = $12, update_time = $13
WHERE tenant_id = $1 AND instrument_id = $2
"""

_LIST = f"""
SELECT {_COLUMNS} FROM instrument.instruments
WHERE tenant_id = $1 AND instrument_id > $2 {{condition}}
ORDER BY instrument_id LIMIT $3
"""

# Each rank is a range of the primary key and read in its order, so a short
# prefix of a large tenant costs no more than a long one. An instrument may hold
# several terms of a prefix, hence more terms are read than instruments wanted.
_RANK = """
(SELECT rank, term, instrument_id FROM instrument.search_terms
 WHERE tenant_id = $1 AND rank = {rank} AND term >= $2 AND term < $3
 ORDER BY term, instrument_id LIMIT $4 * 4)
"""
_SEARCH = f"""
WITH matches AS ({" UNION ALL ".join(_RANK.format(rank=rank) for rank in range(3))}),
best AS (
    SELECT DISTINCT ON (instrument_id) * FROM matches ORDER BY instrument_id, rank, term
)
SELECT {_COLUMNS} FROM best JOIN instrument.instruments USING (instrument_id)
WHERE tenant_id = $1 ORDER BY rank, term, instrument_id LIMIT $4
"""
_LAST_CHARACTER = "\U0010ffff"

_ADD_TERMS = """
INSERT INTO instrument.search_terms (tenant_id, instrument_id, rank, term)
SELECT $1, $2, * FROM unnest($3::smallint[], $4::text[])
"""


class Instruments(Protocol):
    """The instruments of a tenant within a transaction; the port that tests fake."""

    @property
    def requests(self) -> Requests:
        """The request keys."""
        ...

    async def lock(self, tenant_id: str, instrument_id: str) -> None:
        """Serialise the writers of one instrument; call before the first write."""
        ...

    async def find(self, tenant_id: str, instrument_id: str) -> Instrument | None:
        """Return one instrument; None when there is none."""
        ...

    async def list_page(
        self, tenant_id: str, status: Status | None, after: str, limit: int
    ) -> list[Instrument]:
        """Return instruments by id, those after `after`; all states when None."""
        ...

    async def search(self, tenant_id: str, prefix: str, limit: int) -> list[Instrument]:
        """Return instruments with a term that begins with `prefix`, best first."""
        ...

    async def insert(
        self, tenant_id: str, instrument: Instrument, terms: Sequence[tuple[int, str]]
    ) -> None:
        """Store a new instrument with its search terms; raises AlreadyExists
        SYMBOL_TAKEN when another one has its symbol on its market."""
        ...

    async def update(
        self, tenant_id: str, instrument: Instrument, terms: Sequence[tuple[int, str]] | None
    ) -> None:
        """Store a new version, with new search terms unless None; raises as `insert`."""
        ...


class PostgresInstruments(Instruments):
    """The instruments in Postgres."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._requests = PostgresRequests("instrument", connection)

    @property
    def requests(self) -> Requests:
        """The request keys."""
        return self._requests

    async def lock(self, tenant_id: str, instrument_id: str) -> None:
        """Serialise the writers of one instrument."""
        await outbox.lock_keys(self._connection, "instrument", tenant_id, [instrument_id])

    async def find(self, tenant_id: str, instrument_id: str) -> Instrument | None:
        """Return one instrument; None when there is none."""
        row = await self._connection.fetchrow(
            f"SELECT {_COLUMNS} FROM instrument.instruments "
            "WHERE tenant_id = $1 AND instrument_id = $2",
            tenant_id,
            instrument_id,
        )
        return None if row is None else _instrument(row)

    async def list_page(
        self, tenant_id: str, status: Status | None, after: str, limit: int
    ) -> list[Instrument]:
        """Return instruments by id, those after `after`."""
        condition, arguments = ("", ()) if status is None else ("AND status = $4", (status.value,))
        query = _LIST.format(condition=condition)
        rows = await self._connection.fetch(query, tenant_id, after, limit, *arguments)
        return [_instrument(row) for row in rows]

    async def search(self, tenant_id: str, prefix: str, limit: int) -> list[Instrument]:
        """Return instruments with a term that begins with `prefix`, best first."""
        last = prefix + _LAST_CHARACTER
        rows = await self._connection.fetch(_SEARCH, tenant_id, prefix, last, limit)
        return [_instrument(row) for row in rows]

    async def insert(
        self, tenant_id: str, instrument: Instrument, terms: Sequence[tuple[int, str]]
    ) -> None:
        """Store a new instrument with its search terms."""
        one = instrument.terms
        arguments = (
            *(one.symbol, one.name, one.isin, one.cusip, one.figi, one.mic, one.currency),
            *(one.lot_size_micros, one.tick_size_e8, one.calendar),
            *(instrument.status.value, instrument.version),
            *(instrument.create_time, instrument.update_time),
        )
        await self._write(_INSERT, tenant_id, instrument, *arguments)
        await self._add_terms(tenant_id, one.instrument_id, terms)

    async def update(
        self, tenant_id: str, instrument: Instrument, terms: Sequence[tuple[int, str]] | None
    ) -> None:
        """Store a new version, with new search terms unless None."""
        one = instrument.terms
        arguments = (
            *(one.symbol, one.name, one.isin, one.cusip, one.figi),
            *(one.lot_size_micros, one.tick_size_e8, one.calendar),
            *(instrument.status.value, instrument.version, instrument.update_time),
        )
        await self._write(_UPDATE, tenant_id, instrument, *arguments)
        if terms is not None:
            await self._connection.execute(
                "DELETE FROM instrument.search_terms WHERE tenant_id = $1 AND instrument_id = $2",
                tenant_id,
                one.instrument_id,
            )
            await self._add_terms(tenant_id, one.instrument_id, terms)

    async def _write(
        self, query: str, tenant_id: str, instrument: Instrument, *values: object
    ) -> None:
        terms = instrument.terms
        try:
            await self._connection.execute(query, tenant_id, terms.instrument_id, *values)
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name != "instruments_symbol":
                raise
            text = f"symbol {terms.symbol} on {terms.mic} is taken"
            violation = Violation("instrument.symbol", text, "SYMBOL_TAKEN")
            raise AlreadyExists("SYMBOL_TAKEN", text, violations=[violation]) from None

    async def _add_terms(
        self, tenant_id: str, instrument_id: str, terms: Sequence[tuple[int, str]]
    ) -> None:
        ranks, texts = [rank for rank, _ in terms], [text for _, text in terms]
        await self._connection.execute(_ADD_TERMS, tenant_id, instrument_id, ranks, texts)


def _instrument(row: asyncpg.Record) -> Instrument:
    terms = Terms(
        instrument_id=row["instrument_id"],
        symbol=row["symbol"],
        name=row["name"],
        isin=row["isin"],
        cusip=row["cusip"],
        figi=row["figi"],
        mic=row["mic"],
        currency=row["currency"],
        lot_size_micros=row["lot_size_micros"],
        tick_size_e8=row["tick_size_e8"],
        calendar=row["calendar"],
    )
    return Instrument(
        terms, Status(row["status"]), row["version"], row["create_time"], row["update_time"]
    )
