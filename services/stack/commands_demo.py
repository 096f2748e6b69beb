"""demo."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from sys import executable
from typing import Annotated

import grpc
import numpy as np
import typer
from interchange.ledger.v1.ledger_service_pb2 import CheckLedgerRequest
from rich.console import Console
from rich.text import Text

from services.stack import checks, recount, verification
from services.stack.booking import describe
from services.stack.checks import Check
from services.stack.demo import DEPOSITS, REPEATED, Demo, Outcome
from services.stack.edge import Edge
from services.stack.errors import StackError
from services.stack.progress import Progress
from services.stack.recount import Recount
from services.stack.report import MARKS, Bars, checks_table, counts_table, grid
from services.stack.rest import Reader, StoredPosition
from services.stack.stack import Stack
from services.stack.talk_demo import TalkDemo
from services.stack.talk_report import talk_checks, talk_tables

TENANT = "demo"
CHECK_TIMEOUT_S = 60.0
SAMPLE = 5
"""Accounts whose balances are summed anew from their entries."""
BIGGEST = 10


def demo(
    trades: Annotated[int, typer.Option(min=1_000, help="Trades of the simulated day.")] = 50_000,
    customers: Annotated[
        int, typer.Option(min=2, max=5_000, help="Customers of the help desks.")
    ] = 300,
    accounts: Annotated[int, typer.Option(min=1, max=9_999, help="Client accounts.")] = 200,
    calls: Annotated[int, typer.Option(min=10, help="Single calls to measure.")] = 300,
    patience: Annotated[
        float, typer.Option(min=1, help="Seconds without any answer before it gives up.")
    ] = 120.0,
) -> None:
    """Start the stack and walk a simulated day through it: trades, then conversations.

    Books the day through Envoy, waits until position and ledger hold it, and
    recounts all of it. Then two tenants' customers talk with bots and agents over
    WebSockets, and what each was told is compared with what is stored. Exit code 0
    when every check passed.
    """
    console = Console(highlight=False)
    began = time.monotonic()
    stack = Stack()
    with Progress(console) as progress:
        stack.up(report=progress.report)
    console.print(f"stack ready in {time.monotonic() - began:.1f} s: {stack.edge_url}")
    try:
        traded, account = asyncio.run(_trade(stack, console, trades, accounts, calls, patience))
        talked = asyncio.run(_talk(stack, console, customers, patience))
    except grpc.aio.AioRpcError as error:
        raise StackError(f"a call was refused: {describe(error)}") from error
    _show_next(console, stack, account)
    console.print(f"\n{time.monotonic() - began:.0f} s in all")
    if not (traded and talked):
        raise StackError("a check failed: see the red marks above")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


async def _trade(
    stack: Stack, console: Console, trades: int, accounts: int, calls: int, patience: float
) -> tuple[bool, str]:
    """Walk the day of trading; return whether all was right, and an account of it."""
    bars = Bars(console)
    async with Edge(stack, TENANT, "demo", patience) as edge, Reader(edge) as reader:
        run = Demo(edge, bars)
        with bars.progress:
            await run.prepare(accounts)
            await run.trade(trades)
            await run.measure(calls)
        outcome = run.outcome
        counted = run.recount()
        found = [
            *_booking_checks(outcome, counted.trades()),
            *await verification.verify(reader, counted, outcome.marks),
            *await _ledger_checks(edge, reader, outcome, counted),
        ]
        trial = checks.trial_checks(await reader.trial_balance())
        positions = await reader.positions()
    _show(console, outcome, positions)
    console.print(checks_table("\nChecks from the outside", found))
    console.print(
        checks_table("\nTrial balance of the tenant", trial, ("asset", "debit", "credit"))
    )
    _show_latency(console, outcome)
    refused = all(reason == fault.reason for fault, reason in outcome.refused)
    return refused and all(check.passed for check in (*found, *trial)), outcome.accounts[1]


async def _talk(stack: Stack, console: Console, customers: int, patience: float) -> bool:
    """Let customers, bots and agents talk; return whether all was right."""
    bars = Bars(console)
    run = TalkDemo(stack, bars, patience)
    with bars.progress:
        await run.run(customers)
    found = talk_checks(run.hours)
    for table in talk_tables(run.hours, run.took_s):
        console.print(table)
    console.print(checks_table("\nChecks of what was told", found, ("check", "told", "stored")))
    return all(check.passed for check in found)


def _booking_checks(outcome: Outcome, counted: int) -> list[Check]:
    singles = len(outcome.latencies_ms)
    return [
        checks.equal("trades sent, booked", outcome.sent, outcome.booked),
        checks.equal("with single calls, numbers given", outcome.sent + singles, counted),
        checks.equal(
            "sent again, answered as booked", min(REPEATED, outcome.sent), outcome.repeated
        ),
    ]


async def _ledger_checks(
    edge: Edge, reader: Reader, outcome: Outcome, counted: Recount
) -> list[Check]:
    """Let the ledger recompute itself, and recompute a sample from its entries."""
    answer = await edge.call(edge.ledger.CheckLedger, CheckLedgerRequest(), CHECK_TIMEOUT_S)
    found = [
        checks.equal("journals that don't sum to zero", 0, len(answer.unbalanced_journal_ids)),
        checks.equal("journals twice for one event", 0, answer.duplicate_journal_count),
        checks.equal("stored balances unlike their entries", 0, len(answer.differences)),
    ]
    sums: dict[tuple[str, str, str], int] = {}
    stored: dict[tuple[str, str, str], int] = {}
    journals: set[str] = set()
    expected = 0
    sample = outcome.accounts[1 : SAMPLE + 1]
    for account in sample:
        async for entry in reader.entries(account):
            key = account, entry.sub_account, entry.asset
            sums[key] = sums.get(key, 0) + entry.amount
            journals.add(entry.journal_id)
        expected += len(counted.fills.get(account, ())) + len(DEPOSITS)
        for balance in (await reader.balances(account)).get(account, ()):
            stored[account, balance.sub_account, balance.asset] = balance.amount
    found.append(checks.sums(f"balances of {len(sample)} accounts, from entries", sums, stored))
    found.append(checks.equal("their trades and deposits, journals", expected, len(journals)))
    return found


def _show(
    console: Console, outcome: Outcome, positions: dict[tuple[str, str], StoredPosition]
) -> None:
    rows = [
        ("trades booked", f"{outcome.booked:,} of {outcome.sent:,}"),
        ("accounts", f"{len(outcome.accounts):,}, {outcome.accounts[0]} among them"),
        ("booked through Envoy", _rate(outcome.booked, outcome.booking_s)),
        ("until position and ledger held them", _rate(outcome.booked, outcome.posting_s)),
    ]
    if outcome.reconnects:
        rows.append(("connections that broke", str(outcome.reconnects)))
    console.print(counts_table(f"\nSimulated day, run {outcome.run}", rows))
    for text in outcome.unexpected[:BIGGEST]:
        console.print(Text(f"refused, and should not have been: {text}", style="red"))
    table = grid("\nRefused, as it must be", ("trade", "reason"), (), left=2)
    table.add_column("")
    for fault, reason in outcome.refused:
        table.add_row(fault.description, reason or "booked", MARKS[reason == fault.reason])
    console.print(table)
    mine = [(pair, it) for pair, it in positions.items() if pair[0] in set(outcome.accounts)]
    mine.sort(key=lambda item: -abs(item[1].cost))
    headings = ("account", "instrument", "quantity", "average cost", "realised P&L", "")
    console.print(
        grid("\nBiggest positions", headings, [_position(*item) for item in mine[:BIGGEST]], left=2)
    )


def _position(pair: tuple[str, str], position: StoredPosition) -> tuple[str, ...]:
    decimals = recount.exponent(position.currency)
    return (
        *pair,
        recount.text(position.quantity, recount.QUANTITY_DECIMALS).removesuffix(".000000"),
        recount.text(position.average_cost, recount.PRICE_DECIMALS)[:-4],
        recount.text(position.realized, decimals),
        position.currency,
    )


def _show_latency(console: Console, outcome: Outcome) -> None:
    p50, p95, p99 = np.percentile(outcome.latencies_ms, [50, 95, 99])
    rows = [("p50", f"{p50:.1f} ms"), ("p95", f"{p95:.1f} ms"), ("p99", f"{p99:.1f} ms")]
    title = f"\nFrom call to ledger, {len(outcome.latencies_ms)} single calls, one after the other"
    console.print(counts_table(title, rows))


def _show_next(console: Console, stack: Stack, account: str) -> None:
    command = Path(executable).with_name("interchange")
    if command.is_relative_to(Path.cwd()):
        command = command.relative_to(Path.cwd())
    bearer = f'-H "authorization: Bearer $({command} token --tenant {TENANT} --role trader)"'
    body = (
        f'{{"requestId": "mine-{account}", "accountId": "{account}", "instrumentId": "IBM", '
        '"side": "SIDE_BUY", "quantity": {"value": "100"}, "price": {"value": "181.52"}, '
        '"currency": "USD", "waitFor": "WAIT_FOR_POSTED"}'
    )
    address = stack.edge_url.removeprefix("http://")
    lines: Sequence[str] = (
        "\nTry next",
        f"curl -s {bearer} {stack.edge_url}/v1/accounts/{account}/positions",
        f"curl -s {bearer} -H 'content-type: application/json' {stack.edge_url}/v1/trades "
        f"-d '{body}'",
        f'grpcurl -plaintext {bearer} -d \'{{"account_id": "{account}"}}\' {address} '
        "interchange.ledger.v1.LedgerService/ListBalances",
        f"{command} chat --tenant {TENANT}",
        f"{command} chat --tenant {TENANT} --agent ana     (in another terminal)",
        "make down",
    )
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _rate(trades: int, seconds: float) -> str:
    return f"{seconds:.1f} s, {trades / seconds:,.0f}/s"
