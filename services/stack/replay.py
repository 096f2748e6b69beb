"""Books a blotter: reads it, books it, waits until it is posted and verifies it.

A run may end at any moment and be started again. It keeps no note of how far
it was: it sends everything again, and the trade service answers what it has by
(source, external_id). The source is a name, not the path: the same trades in
another file, or next month, are still the same.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from interchange.account.v1.account_pb2 import ACCOUNT_KIND_CLIENT, Account
from interchange.instrument.v1.instrument_pb2 import INSTRUMENT_STATUS_ACTIVE
from interchange.trade.v1.trade_service_pb2 import TradeReceipt

from services.stack import checks, recount, verification
from services.stack.blotter import Blotter, Reject, Row, Survey
from services.stack.booking import CHUNK_SIZE, Chunk, Stream, add_trade, violations
from services.stack.checks import Check
from services.stack.edge import Edge
from services.stack.recount import Recount
from services.stack.rejects import Rejects
from services.stack.report import Bars
from services.stack.rest import Reader
from services.stack.symbols import Symbols
from services.stack.waiting import until_posted, until_tradable

if TYPE_CHECKING:
    from services.stack.booking import Call

COLUMN_OF = {"account_id": "account", "instrument_id": "symbol"}
"""Columns whose fields have other names in the API."""


@dataclass(slots=True)
class Summary:
    """What a run did."""

    rows: int = 0
    booked: int = 0
    repeated: int = 0
    """Booked by an earlier run."""
    confirmed: int = 0
    """Found booked when their chunk was sent again after a break."""
    rejected: int = 0
    accounts: int = 0
    """Accounts that the blotter names."""
    created: int = 0
    """Accounts of them that were missing and made."""
    instruments: Sequence[str] = ()
    """Instruments that were missing and made, of the built-in equities."""
    reconnects: int = 0
    booking_s: float = 0.0
    posting_s: float = 0.0
    """From the first trade sent until position and ledger held the last."""
    checks: list[Check] = field(default_factory=list)
    trial: list[Check] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Tell whether every check passed."""
        return all(check.passed for check in (*self.checks, *self.trial))


class Replay:
    """One run over one blotter."""

    def __init__(
        self, edge: Edge, blotter: Blotter, source: str, rejects: Rejects, bars: Bars
    ) -> None:
        self._edge = edge
        self._blotter = blotter
        self._source = source
        self._rejects = rejects
        self._bars = bars
        self._symbols = Symbols([])
        self._booked: list[tuple[Row, int]] = []
        """Rows and the numbers of their events. Counted later: booking goes first."""
        self.summary = Summary()

    async def run(self, *, create: bool, verify: bool) -> Summary:
        """Book everything; raises `StackError` when the stack or the file gives out.

        `create` makes the accounts and built-in equities that are missing.
        """
        survey = self._blotter.survey()
        self.summary.rows = survey.rows
        self.summary.accounts = len(survey.accounts)
        if create:
            self.summary.instruments = await self._edge.create_instruments(survey.symbols)
        instruments = await self._edge.all_instruments()
        self._symbols = Symbols(instruments)
        if create:
            known = await self._create_accounts(survey)
            active = [it for it in instruments if it.status == INSTRUMENT_STATUS_ACTIVE]
            await until_tradable(self._edge, known, [it.instrument_id for it in active])
        began = time.monotonic()
        await self._book(survey.rows)
        self.summary.booking_s = time.monotonic() - began
        await self._post(began, verify=verify)
        return self.summary

    async def _create_accounts(self, survey: Survey) -> list[str]:
        """Create the accounts that are missing; return those that exist then."""
        existing = {account.account_id async for account in self._edge.all_accounts()}
        missing = [
            Account(
                account_id=name,
                display_name=name,
                kind=ACCOUNT_KIND_CLIENT,
                base_currency=currency,
            )
            for name, currency in survey.accounts.items()
            if name not in existing and currency
        ]
        # What is refused here is no account; each of its rows is refused with the reason.
        refused = await self._edge.create_accounts(missing)
        self.summary.created = len(missing) - len(refused)
        existing |= {account.account_id for account in missing} - refused.keys()
        return [name for name in survey.accounts if name in existing]

    async def _book(self, rows: int) -> None:
        stage = self._bars.stage("booking", rows)

        def answered(chunk: Chunk[Row], receipts: Sequence[TradeReceipt]) -> None:
            self._take(chunk, receipts)
            done = len(self._booked) + self._rejects.rows
            stage.reach(done, self._rejects.rows)

        stream = Stream(self._open, answered, self._edge.patience_s)
        await stream.book(self._chunks())
        stage.reach(rows, self._rejects.rows)
        self.summary.reconnects = stream.reconnects
        self.summary.rejected = self._rejects.rows

    def _open(self) -> "Call":
        return self._edge.trades.StreamTrades(metadata=self._edge.metadata())

    def _chunks(self) -> Iterator[Chunk[Row]]:
        chunk: Chunk[Row] = Chunk()
        for item in self._blotter.items():
            if isinstance(item, Reject):
                self._rejects.add([item])
                continue
            instrument = self._symbols.instrument(item.symbol, item.currency)
            if instrument.reason:
                fault = Reject(item.line, "symbol", instrument.reason, instrument.description)
                self._rejects.add([fault])
                continue
            add_trade(
                chunk.request,
                self._source,
                item.external_id,
                item.account,
                instrument.instrument_id,
                item.side,
                item.quantity,
                item.price,
                item.currency,
                item.time_us,
                item.venue,
                item.fees,
            )
            chunk.notes.append(item)
            if len(chunk.notes) == CHUNK_SIZE:
                yield chunk
                chunk = Chunk()
        if chunk.notes:
            yield chunk

    def _take(self, chunk: Chunk[Row], receipts: Sequence[TradeReceipt]) -> None:
        summary = self.summary
        resent = chunk.sendings > 1
        for row, receipt in zip(chunk.notes, receipts, strict=True):
            if receipt.HasField("error"):
                faults = violations(receipt.error)
                self._rejects.add(
                    Reject(row.line, COLUMN_OF.get(name, name), reason, description)
                    for name, reason, description in faults
                )
                continue
            self._booked.append((row, receipt.sequence))
            if not receipt.repeated_call:
                summary.booked += 1
            elif resent:
                summary.confirmed += 1
            else:
                summary.repeated += 1

    async def _post(self, began: float, *, verify: bool) -> None:
        last: dict[str, int] = {}
        for row, sequence in self._booked:
            last[row.account] = max(sequence, last.get(row.account, 0))
        stage = self._bars.stage("posting, by account", len(last))
        marks = await until_posted(self._edge, last, reached=stage.advance)
        self.summary.posting_s = time.monotonic() - began
        if not verify:
            return
        counted = self._recount()
        async with Reader(self._edge) as reader:
            await verification.complete(reader, counted, marks)
            self.summary.checks = [
                self._rows_check(),
                *await verification.verify(reader, counted, marks),
            ]
            self.summary.trial = checks.trial_checks(await reader.trial_balance())

    def _recount(self) -> Recount:
        counted = Recount()
        for row, sequence in self._booked:
            instrument = self._symbols.instrument(row.symbol, row.currency).instrument_id
            fill = recount.fill(
                instrument, row.side, row.quantity, row.price, row.currency, row.fees
            )
            counted.add(row.account, sequence, fill)
        return counted

    def _rows_check(self) -> Check:
        """Compare the rows of the file with what became of them."""
        summary = self.summary
        answered = summary.booked + summary.confirmed + summary.repeated + summary.rejected
        return checks.equal("rows: in the file, answered", summary.rows, answered)
