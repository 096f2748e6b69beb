"""Journals as binary COPY payloads."""

import numpy as np

from native import pgcopy
from services.ledger.domain import Int64s, Journals

JOURNAL_COLUMNS = (
    "source_sequence",
    "posted_at",
    "effective_date",
    "kind",
    "journal_id",
    "source_id",
    "tenant_id",
    "account_id",
)
ENTRY_COLUMNS = (
    "amount",
    "posted_at",
    "leg",
    "sub_account",
    "asset_kind",
    "journal_id",
    "tenant_id",
    "account_id",
    "asset",
    "instrument_id",
)
_EPOCH_DAYS = 10_957
"""Days from 1970-01-01 to 2000-01-01, where Postgres begins to count."""
_EPOCH_US = _EPOCH_DAYS * 86_400_000_000


def encode_journals(journals: Journals, posted_us: int) -> bytes:
    """Return the rows of ledger.journals."""
    headers = journals.headers
    count = len(headers)
    tenants, accounts = _owners(journals)
    columns = [
        pgcopy.int8(headers.source_sequence),
        pgcopy.timestamptz(_repeated(posted_us - _EPOCH_US, count)),
        pgcopy.int4(headers.effective_day - np.int32(_EPOCH_DAYS)),
        pgcopy.int2(np.full(count, headers.kind, np.uint8)),
        pgcopy.uuid(uuid_bytes(headers.event_ids)),
        pgcopy.uuid(uuid_bytes(headers.source_ids)),
        pgcopy.text(headers.account, tenants),
        pgcopy.text(headers.account, accounts),
    ]
    return pgcopy.encode_copy(columns, count)


def encode_entries(journals: Journals, posted_us: int) -> bytes:
    """Return the rows of ledger.entries."""
    legs = journals.legs
    count = len(legs)
    tenants, accounts = _owners(journals)
    owner = journals.headers.account[legs.journal]
    kinds = np.array([asset.kind for asset in journals.assets], np.uint8)
    names = [asset.name.encode() for asset in journals.assets]
    ids = uuid_bytes(journals.headers.event_ids)
    id_of = [ids[at : at + 16] for at in range(0, len(ids), 16)]
    columns = [
        pgcopy.int8(legs.amount),
        pgcopy.timestamptz(_repeated(posted_us - _EPOCH_US, count)),
        pgcopy.int2(legs.leg),
        pgcopy.int2(legs.sub_account),
        pgcopy.int2(kinds[legs.asset]),
        pgcopy.text(legs.journal, id_of),
        pgcopy.text(owner, tenants),
        pgcopy.text(owner, accounts),
        pgcopy.text(legs.asset, names),
        pgcopy.text(legs.instrument, names),
    ]
    return pgcopy.encode_copy(columns, count)


def uuid_bytes(ids: list[str]) -> bytes:
    """Return the 16 bytes of each id, joined; raises ValueError for what is no UUID."""
    if set(map(len, ids)) - {36}:
        raise ValueError("an id was not a UUID of 36 characters")
    found = bytes.fromhex("".join(ids).replace("-", ""))
    if len(found) != 16 * len(ids):
        raise ValueError("an id was not a UUID with four dashes")
    return found


def _owners(journals: Journals) -> tuple[list[bytes], list[bytes]]:
    return (
        [tenant_id.encode() for tenant_id, _ in journals.accounts],
        [account_id.encode() for _, account_id in journals.accounts],
    )


def _repeated(value: int, count: int) -> Int64s:
    return np.full(count, value, np.int64)
