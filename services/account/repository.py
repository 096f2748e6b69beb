"""All SQL of the account service."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import asyncpg

from services.account.domain import Account, CostMethod, Kind, Status
from services.account.transfers import Terms, Transfer
from services.common import outbox
from services.common.db import Connection
from services.common.requests import PostgresRequests, Requests

_ACCOUNT = """account_id, display_name, kind, base_currency, cost_method, status, version,
    create_time"""

_INSERT_ACCOUNTS = f"""
INSERT INTO account.accounts (tenant_id, {_ACCOUNT}, last_sequence)
SELECT $1, *, 1 FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                            $7::text[], $8::bigint[], $9::timestamptz[])
"""

_TRANSFER = """transfer_id, account_id, asset, is_cash, amount, cost_currency, cost_minor,
    value_date, description, sequence, create_time"""

_INSERT_TRANSFERS = f"""
INSERT INTO account.transfers (tenant_id, {_TRANSFER})
SELECT $1, * FROM unnest($2::uuid[], $3::text[], $4::text[], $5::boolean[], $6::bigint[],
                         $7::text[], $8::bigint[], $9::date[], $10::text[], $11::bigint[],
                         $12::timestamptz[])
"""

_ADVANCE = """
UPDATE account.accounts AS a SET last_sequence = n.last_sequence
FROM unnest($2::text[], $3::bigint[]) AS n(account_id, last_sequence)
WHERE a.tenant_id = $1 AND a.account_id = n.account_id
"""


class Standing(NamedTuple):
    """What a transfer needs to know of its account."""

    status: Status
    last_sequence: int


class Accounts(Protocol):
    """The accounts of a tenant within a transaction; the port that tests fake."""

    @property
    def requests(self) -> Requests:
        """The request keys."""
        ...

    async def lock(self, tenant_id: str, account_ids: Sequence[str]) -> None:
        """Serialise the writers of accounts; call before the first write."""
        ...

    async def standings(self, tenant_id: str, account_ids: Sequence[str]) -> dict[str, Standing]:
        """Return state and last sequence of the accounts that exist."""
        ...

    async def find(self, tenant_id: str, account_id: str) -> Account | None:
        """Return one account; None when there is none."""
        ...

    async def list_page(self, tenant_id: str, after: str, limit: int) -> list[Account]:
        """Return accounts by id, those after `after`."""
        ...

    async def insert(self, tenant_id: str, accounts: Sequence[Account]) -> None:
        """Store new accounts, whose first event has sequence 1."""
        ...

    async def insert_transfers(self, tenant_id: str, transfers: Sequence[Transfer]) -> None:
        """Store new transfers."""
        ...

    async def advance(self, tenant_id: str, last_sequences: Mapping[str, int]) -> None:
        """Store the number of the last event of each account."""
        ...

    async def find_transfer(self, tenant_id: str, transfer_id: str) -> Transfer | None:
        """Return one transfer; None when there is none."""
        ...

    async def list_transfers(
        self, tenant_id: str, account_id: str, before: int, limit: int
    ) -> list[Transfer]:
        """Return transfers of an account, newest first, of sequences below `before`."""
        ...


class PostgresAccounts(Accounts):
    """The accounts in Postgres."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._requests = PostgresRequests("account", connection)

    @property
    def requests(self) -> Requests:
        """The request keys."""
        return self._requests

    async def lock(self, tenant_id: str, account_ids: Sequence[str]) -> None:
        """Serialise the writers of accounts."""
        await outbox.lock_keys(self._connection, "account", tenant_id, account_ids)

    async def standings(self, tenant_id: str, account_ids: Sequence[str]) -> dict[str, Standing]:
        """Return state and last sequence of the accounts that exist."""
        rows = await self._connection.fetch(
            "SELECT account_id, status, last_sequence FROM account.accounts "
            "WHERE tenant_id = $1 AND account_id = ANY ($2::text[])",
            tenant_id,
            list(account_ids),
        )
        return {
            row["account_id"]: Standing(Status(row["status"]), row["last_sequence"]) for row in rows
        }

    async def find(self, tenant_id: str, account_id: str) -> Account | None:
        """Return one account; None when there is none."""
        row = await self._connection.fetchrow(
            f"SELECT {_ACCOUNT} FROM account.accounts WHERE tenant_id = $1 AND account_id = $2",
            tenant_id,
            account_id,
        )
        return None if row is None else _account(row)

    async def list_page(self, tenant_id: str, after: str, limit: int) -> list[Account]:
        """Return accounts by id, those after `after`."""
        rows = await self._connection.fetch(
            f"SELECT {_ACCOUNT} FROM account.accounts "
            "WHERE tenant_id = $1 AND account_id > $2 ORDER BY account_id LIMIT $3",
            tenant_id,
            after,
            limit,
        )
        return [_account(row) for row in rows]

    async def insert(self, tenant_id: str, accounts: Sequence[Account]) -> None:
        """Store new accounts, whose first event has sequence 1."""
        if not accounts:
            return
        await self._connection.execute(
            _INSERT_ACCOUNTS,
            tenant_id,
            [one.account_id for one in accounts],
            [one.display_name for one in accounts],
            [one.kind.value for one in accounts],
            [one.base_currency for one in accounts],
            [one.cost_method.value for one in accounts],
            [one.status.value for one in accounts],
            [one.version for one in accounts],
            [one.create_time for one in accounts],
        )

    async def insert_transfers(self, tenant_id: str, transfers: Sequence[Transfer]) -> None:
        """Store new transfers."""
        if not transfers:
            return
        terms = [one.terms for one in transfers]
        await self._connection.execute(
            _INSERT_TRANSFERS,
            tenant_id,
            [one.transfer_id for one in transfers],
            [one.account_id for one in terms],
            [one.asset for one in terms],
            [one.is_cash for one in terms],
            [one.amount for one in terms],
            [one.cost_currency for one in terms],
            [one.cost_minor for one in terms],
            [one.value_date for one in terms],
            [one.description for one in terms],
            [one.sequence for one in transfers],
            [one.create_time for one in transfers],
        )

    async def advance(self, tenant_id: str, last_sequences: Mapping[str, int]) -> None:
        """Store the number of the last event of each account."""
        if last_sequences:
            columns = list(last_sequences), list(last_sequences.values())
            await self._connection.execute(_ADVANCE, tenant_id, *columns)

    async def find_transfer(self, tenant_id: str, transfer_id: str) -> Transfer | None:
        """Return one transfer; None when there is none."""
        row = await self._connection.fetchrow(
            f"SELECT {_TRANSFER} FROM account.transfers "
            "WHERE tenant_id = $1 AND transfer_id = $2::text::uuid",
            tenant_id,
            transfer_id,
        )
        return None if row is None else _transfer(row)

    async def list_transfers(
        self, tenant_id: str, account_id: str, before: int, limit: int
    ) -> list[Transfer]:
        """Return transfers of an account, newest first, of sequences below `before`."""
        rows = await self._connection.fetch(
            f"SELECT {_TRANSFER} FROM account.transfers WHERE tenant_id = $1 AND account_id = $2 "
            "AND sequence < $3 ORDER BY sequence DESC LIMIT $4",
            tenant_id,
            account_id,
            before,
            limit,
        )
        return [_transfer(row) for row in rows]


def _account(row: asyncpg.Record) -> Account:
    return Account(
        account_id=row["account_id"],
        display_name=row["display_name"],
        kind=Kind(row["kind"]),
        base_currency=row["base_currency"],
        cost_method=CostMethod(row["cost_method"]),
        status=Status(row["status"]),
        version=row["version"],
        create_time=row["create_time"],
    )


def _transfer(row: asyncpg.Record) -> Transfer:
    terms = Terms(
        account_id=row["account_id"],
        asset=row["asset"],
        is_cash=row["is_cash"],
        amount=row["amount"],
        cost_currency=row["cost_currency"],
        cost_minor=row["cost_minor"],
        value_date=row["value_date"],
        description=row["description"],
    )
    return Transfer(str(row["transfer_id"]), terms, row["sequence"], row["create_time"])
