"""Rows of the ledger as protobuf."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from google.type.decimal_pb2 import Decimal
from interchange.ledger.v1 import ledger_service_pb2 as pb
from interchange.ledger.v1.ledger_pb2 import (
    AssetKind,
    Balance,
    BalanceDifference,
    Entry,
    Journal,
    JournalKind,
    LedgerWatermark,
    SubAccount,
    TrialBalanceLine,
)

from services.common import currencies
from services.ledger import domain
from services.ledger.consumer import TRADES, TRANSFERS
from services.ledger.domain import CURRENCY, SECURITY, Asset
from services.ledger.rows import BalanceRow, CheckRow, DifferenceRow, EntryRow, JournalRow, TrialRow


def journal(row: JournalRow) -> Journal:
    """Return a journal with its entries."""
    day = row.effective_date
    return Journal(
        journal_id=row.journal_id,
        account_id=row.account_id,
        kind=JournalKind.ValueType(row.kind),
        source_id=row.source_id,
        source_sequence=row.source_sequence,
        effective_date=Date(year=day.year, month=day.month, day=day.day),
        post_time=_timestamp(row.posted_at),
        entries=map(entry, row.entries),
    )


def entry(row: EntryRow) -> Entry:
    """Return one leg."""
    return Entry(
        journal_id=row.journal_id,
        leg=row.leg,
        account_id=row.account_id,
        sub_account=SubAccount.ValueType(row.sub_account),
        asset=row.asset,
        asset_kind=AssetKind.ValueType(row.asset_kind),
        amount=_amount(row.amount, row.asset_kind, row.asset),
        instrument_id=row.instrument_id,
        post_time=_timestamp(row.posted_at),
    )


def balance(row: BalanceRow) -> Balance:
    """Return one balance."""
    return Balance(
        account_id=row.account_id,
        sub_account=SubAccount.ValueType(row.sub_account),
        asset=row.asset,
        asset_kind=AssetKind.ValueType(row.asset_kind),
        amount=_amount(row.amount, row.asset_kind, row.asset),
        entry_count=row.entry_count,
        update_time=_timestamp(row.updated_at),
    )


def no_balance(account_id: str, asset: str, sub_account: SubAccount.ValueType) -> Balance:
    """Return the balance of what was never booked; an unknown account looks the same."""
    kind = SECURITY if currencies.exponent(asset) is None else CURRENCY
    return Balance(
        account_id=account_id,
        sub_account=sub_account,
        asset=asset,
        asset_kind=AssetKind.ValueType(kind),
        amount=Decimal(value="0"),
    )


def trial_balance(rows: Iterable[TrialRow]) -> pb.GetTrialBalanceResponse:
    """Return the lines, and whether those of each asset sum to zero."""
    response = pb.GetTrialBalanceResponse()
    nets: dict[tuple[int, str], int] = {}
    for row in rows:
        kind, name = asset = row.asset_kind, row.asset
        nets[asset] = nets.get(asset, 0) + row.net
        response.lines.append(
            TrialBalanceLine(
                asset=name,
                asset_kind=AssetKind.ValueType(kind),
                sub_account=SubAccount.ValueType(row.sub_account),
                debit=_amount(row.debit, kind, name),
                credit=_amount(row.credit, kind, name),
                net=_amount(row.net, kind, name),
                entry_count=row.entry_count,
            )
        )
    response.balanced = not any(nets.values())
    return response


def check(row: CheckRow) -> pb.CheckLedgerResponse:
    """Return what recomputing found."""
    return pb.CheckLedgerResponse(
        journal_count=row.journal_count,
        entry_count=row.entry_count,
        balance_count=row.balance_count,
        trade_count=row.trade_count,
        duplicate_journal_count=row.duplicate_count,
        unbalanced_journal_ids=row.unbalanced,
        differences=map(_difference, row.differences),
    )


def watermark(account_id: str, reached: Mapping[str, int]) -> LedgerWatermark:
    """Return how far the topics of an account have been posted."""
    return LedgerWatermark(
        account_id=account_id,
        trade_sequence=reached.get(TRADES, 0),
        transfer_sequence=reached.get(TRANSFERS, 0),
    )


def _difference(row: DifferenceRow) -> BalanceDifference:
    return BalanceDifference(
        account_id=row.account_id,
        sub_account=SubAccount.ValueType(row.sub_account),
        asset=row.asset,
        stored=_amount(row.stored, row.asset_kind, row.asset),
        recomputed=_amount(row.recomputed, row.asset_kind, row.asset),
    )


def _amount(value: int, kind: int, name: str) -> Decimal:
    return Decimal(value=domain.decimal_text(value, domain.scale(Asset(kind, name))))


def _timestamp(at: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp
