"""Verifies from the outside that the stack holds what was booked, and nothing else."""

from collections.abc import Mapping

from services.stack import checks, recount
from services.stack.checks import Check
from services.stack.recount import Fill, Recount
from services.stack.rest import Reader, minor
from services.stack.waiting import Mark

CREATED = 1
"""Number of the account event that every account has; more may be transfers."""
SIDES = {"SIDE_BUY": 1, "SIDE_SELL": -1}


async def complete(reader: Reader, counted: Recount, marks: Mapping[str, Mark]) -> None:
    """Read the trades of the accounts that have more than was counted, over REST.

    An account that somebody else traded in as well can only be compared as a
    whole. What was counted already stays: its figures are the sender's.
    """
    last = {account: mark.trades for account, mark in marks.items()}
    for account in counted.incomplete(last):
        known = counted.fills.get(account, {})
        async for trade in reader.trades(account):
            if trade.sequence <= last[account] and trade.sequence not in known:
                units = recount.scaled(trade.quantity, recount.QUANTITY_DECIMALS)
                price = recount.scaled(trade.price, recount.PRICE_DECIMALS)
                amount = recount.gross(units, price, trade.currency)
                sign = SIDES[trade.side]
                fill = Fill(
                    trade.instrument, trade.currency, sign * units, sign * amount, trade.fees
                )
                counted.add(account, trade.sequence, fill)


async def verify(reader: Reader, counted: Recount, marks: Mapping[str, Mark]) -> list[Check]:
    """Compare positions, cash and entries of the counted accounts with the recount.

    Positions into which securities were moved are left out, and named: at what
    cost is not the sender's to know.
    """
    transfers: dict[str, int] = {}
    moved: set[tuple[str, str]] = set()
    for account, mark in marks.items():
        if mark.transfers > CREATED:
            async for transfer in reader.transfers(account):
                transfers[account] = transfers.get(account, 0) + 1
                sign = 1 if transfer["direction"] == "TRANSFER_DIRECTION_DEPOSIT" else -1
                if cash := transfer.get("cash"):
                    counted.deposit(account, cash["currencyCode"], sign * minor(cash))
                else:
                    moved.add((account, transfer["security"]["instrumentId"]))
    balances = await reader.balances()
    found = [
        checks.equal("two trades with one number", 0, len(counted.conflicts)),
        *checks.position_checks(counted.holdings(), await reader.positions(), moved),
        *checks.cash_checks(counted, balances),
        checks.entry_check(counted, transfers, balances),
    ]
    if moved:
        found.append(Check("left out: securities were moved in or out", str(len(moved)), "", True))
    return found
