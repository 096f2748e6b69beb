"""Use cases of the trade service, each one transaction."""

from collections.abc import Sequence
from typing import TypeAlias

from services.common.clock import BusinessClock
from services.common.errors import NotFound, Unavailable
from services.common.ids import Uuid7
from services.common.work import WorkUnits
from services.trade import inputs
from services.trade.booking import Booking, Outcome, Prepared
from services.trade.commands import CreateTrades, TradeRow
from services.trade.faults import Faults
from services.trade.references import References
from services.trade.repository import (
    KeyRaced,
    TradeFilter,
    TradeRepository,
)

Units: TypeAlias = WorkUnits[TradeRepository]

ATTEMPTS_MAX = 10


def prepare(commands: CreateTrades, booked_by: Sequence[str], clock: BusinessClock) -> Prepared:
    """Check each field by itself; needs no database."""
    now_us = clock.now_us()
    faults = Faults(len(commands))
    checked = inputs.check_input(commands, faults, now_us)
    return Prepared(commands, checked, faults, now_us, list(booked_by))


async def create_trades(
    tenant_id: str, prepared: Prepared, *, uow: Units, ids: Uuid7, references: References
) -> list[Outcome]:
    """Book trades in one transaction with their events; each has its own outcome.

    A refused command stores nothing and uses up no key. Commands that name what
    the local copies lack are tried again once the copy has come, if one will.
    """
    outcomes = await _book(tenant_id, prepared, uow, ids)
    late = [row for row, outcome in enumerate(outcomes) if isinstance(outcome, NotFound)]
    if late:
        accounts = _unknown(outcomes, late, "ACCOUNT_NOT_FOUND", prepared.commands.account_ids)
        instruments = _unknown(
            outcomes, late, "INSTRUMENT_NOT_FOUND", prepared.commands.instrument_ids
        )
        if await references.appear(tenant_id, accounts, instruments):
            again = await _book(tenant_id, prepared.chosen(late), uow, ids)
            for row, outcome in zip(late, again, strict=True):
                outcomes[row] = outcome
    return outcomes


def _unknown(
    outcomes: Sequence[Outcome], rows: Sequence[int], reason: str, names: Sequence[str]
) -> list[str]:
    return sorted(
        {
            names[row]
            for row in rows
            if isinstance(outcome := outcomes[row], NotFound)
            and any(violation.reason == reason for violation in outcome.violations)
        }
    )


async def _book(tenant_id: str, prepared: Prepared, uow: Units, ids: Uuid7) -> list[Outcome]:
    """Book in one transaction.

    When another transaction takes one of the keys meanwhile, all is undone and
    done again: the second look finds what it booked.
    """
    names = prepared.accounts
    for _ in range(ATTEMPTS_MAX):
        try:
            async with uow.tenant(tenant_id, names) as work:
                return await Booking(tenant_id, prepared, names, work, ids).run()
        except KeyRaced:
            continue
    raise Unavailable("KEYS_CONTENDED", "the idempotency keys are contended; try again")


async def get_trade(tenant_id: str, trade_id: str, *, uow: Units) -> TradeRow:
    """Return one trade, or raise NotFound."""
    async with uow.reading(tenant_id) as repository:
        found = await repository.trades(tenant_id, [trade_id])
    if trade_id not in found:
        raise NotFound("TRADE_NOT_FOUND", f"no trade {trade_id}")
    return found[trade_id]


async def list_trades(
    tenant_id: str, wanted: TradeFilter, before: str | None, limit: int, *, uow: Units
) -> Sequence[TradeRow]:
    """Return trades, newest first, older than the trade `before`."""
    async with uow.reading(tenant_id) as repository:
        return await repository.list(tenant_id, wanted, before, limit)
