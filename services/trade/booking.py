"""One attempt to book a batch, within one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TypeAlias

import numpy as np

from services.common.errors import AlreadyExists, InterchangeError, Violation
from services.common.ids import Uuid7
from services.common.work import Work
from services.trade import domain, events, inputs
from services.trade.commands import Booked, CreateTrades, TradeRow
from services.trade.domain import Priced
from services.trade.faults import Faults
from services.trade.inputs import Checked
from services.trade.repository import Key, NewKeys, TradeRepository

Outcome: TypeAlias = Booked | InterchangeError


@dataclass(slots=True)
class Prepared:
    """Commands whose fields were checked one by one."""

    commands: CreateTrades
    checked: Checked
    faults: Faults
    now_us: int
    booked_by: list[str]

    @property
    def accounts(self) -> list[str]:
        """Accounts of the commands that may be booked, each once."""
        bad = self.faults.bad.tolist()
        return sorted(
            {name for name, wrong in zip(self.commands.account_ids, bad, strict=True) if not wrong}
        )

    def chosen(self, rows: Sequence[int]) -> "Prepared":
        """Return some of the commands, checked again: only the rare path asks."""
        faults = Faults(len(rows))
        commands = self.commands.chosen(rows)
        checked = inputs.check_input(commands, faults, self.now_us)
        return Prepared(
            commands, checked, faults, self.now_us, [self.booked_by[row] for row in rows]
        )


class Booking:
    """One attempt to book a batch."""

    def __init__(
        self,
        tenant_id: str,
        prepared: Prepared,
        locked: Sequence[str],
        work: Work[TradeRepository],
        ids: Uuid7,
    ) -> None:
        self._tenant_id = tenant_id
        self._prepared = prepared
        self._names = locked
        self._commands = prepared.commands
        self._work = work
        self._repository = work.repository
        self._ids = ids
        self._outcomes: list[Outcome | None] = [None] * len(prepared.commands)
        for row, error in prepared.faults.errors().items():
            self._outcomes[row] = error

    async def run(self) -> list[Outcome]:
        """Book what can be booked; return the outcome of each command."""
        if any(outcome is None for outcome in self._outcomes):
            await self._book()
        return [outcome for outcome in self._outcomes if outcome is not None]

    async def _book(self) -> None:
        open_rows = [row for row, outcome in enumerate(self._outcomes) if outcome is None]
        accounts = await self._repository.accounts(self._tenant_id, self._names)
        instruments = await self._repository.instruments(
            self._tenant_id, sorted({self._commands.instrument_ids[row] for row in open_rows})
        )
        twins = await self._answer_repeats(open_rows)
        faults = Faults(len(self._commands))
        priced = domain.check_rules(
            self._commands, self._prepared.checked, accounts, instruments, faults
        )
        for row, error in faults.errors().items():
            if self._outcomes[row] is None:
                self._outcomes[row] = error
        fresh = [row for row in open_rows if self._outcomes[row] is None and row not in twins]
        if fresh:
            await self._write(fresh, priced, accounts)
        for row, first in twins.items():
            outcome = self._outcomes[first]
            self._outcomes[row] = (
                Booked(outcome.row, True) if isinstance(outcome, Booked) else outcome
            )

    async def _answer_repeats(self, open_rows: list[int]) -> dict[int, int]:
        """Answer commands whose keys are taken; return the twins within the batch.

        A twin repeats an earlier command of the batch and shares its outcome.
        """
        commands = self._commands
        request_ids = [commands.request_ids[r] for r in open_rows if commands.request_ids[r]]
        externals = [
            (commands.sources[r], commands.external_ids[r])
            for r in open_rows
            if commands.external_ids[r]
        ]
        by_request: Mapping[str, Key] = {}
        by_external: Mapping[tuple[str, str], Key] = {}
        if request_ids:
            by_request = await self._repository.request_keys(self._tenant_id, request_ids)
        if externals:
            sources, names = zip(*externals, strict=True)
            by_external = await self._repository.external_keys(self._tenant_id, sources, names)
        found = {key.trade_id for key in (*by_request.values(), *by_external.values())}
        stored: Mapping[str, TradeRow] = {}
        if found:
            stored = await self._repository.trades(self._tenant_id, sorted(found))
        return self._match(open_rows, by_request, by_external, stored)

    def _match(
        self,
        open_rows: list[int],
        by_request: Mapping[str, Key],
        by_external: Mapping[tuple[str, str], Key],
        stored: Mapping[str, TradeRow],
    ) -> dict[int, int]:
        commands = self._commands
        twins: dict[int, int] = {}
        first_request: dict[str, int] = {}
        first_external: dict[tuple[str, str], int] = {}
        for row in open_rows:
            request_id, external = commands.request_ids[row], self._external(row)
            taken = by_request.get(request_id), by_external.get(external)
            if any(taken):
                self._outcomes[row] = _repeat(commands.hashes[row], *taken, stored)
                continue
            first = first_request.setdefault(request_id, row) if request_id else row
            if first == row and external[1]:
                first = first_external.setdefault(external, row)
            if first == row:
                continue
            if commands.hashes[first] == commands.hashes[row]:
                twins[row] = first
            else:
                same = request_id and request_id == commands.request_ids[first]
                self._outcomes[row] = _reused("request_id" if same else "external_id")
        return twins

    def _external(self, row: int) -> tuple[str, str]:
        return self._commands.sources[row], self._commands.external_ids[row]

    async def _write(
        self, fresh: list[int], priced: Priced, accounts: Mapping[str, domain.Account]
    ) -> None:
        prepared, now_us = self._prepared, self._prepared.now_us
        trade_ids = self._ids.batch(len(fresh), now_us)
        rows = self._rows(fresh, trade_ids, priced, accounts)
        await self._repository.take_keys(self._tenant_id, self._keys(fresh, trade_ids), now_us)
        await self._repository.insert(
            self._tenant_id, rows, [prepared.booked_by[row] for row in fresh]
        )
        self._work.outbox.add(events.trades_booked(self._tenant_id, rows, accounts))
        for row, booked in zip(fresh, rows, strict=True):
            self._outcomes[row] = Booked(booked, False)

    def _rows(
        self,
        fresh: list[int],
        trade_ids: list[str],
        priced: Priced,
        accounts: Mapping[str, domain.Account],
    ) -> list[TradeRow]:
        """Put the columns together; numbers each account's trades on from its last."""
        commands, checked = self._commands, self._prepared.checked
        chosen = np.array(fresh, np.int64)
        names = [commands.account_ids[row] for row in fresh]
        last = {name: accounts[name].last_sequence for name in set(names)}
        sequences = []
        for name in names:
            last[name] = sequence = last[name] + 1
            sequences.append(sequence)
        return list(
            map(
                TradeRow,
                trade_ids,
                [1] * len(fresh),
                names,
                sequences,
                [commands.instrument_ids[row] for row in fresh],
                [commands.sides[row] for row in fresh],
                checked.quantity[chosen].tolist(),
                checked.price[chosen].tolist(),
                [commands.currencies[row] for row in fresh],
                priced.gross[chosen].tolist(),
                priced.fee[chosen].tolist(),
                checked.time_us[chosen].tolist(),
                priced.day[chosen].tolist(),
                [commands.venues[row] for row in fresh],
                [commands.sources[row] for row in fresh],
                [commands.external_ids[row] for row in fresh],
                [self._prepared.now_us] * len(fresh),
            )
        )

    def _keys(self, fresh: list[int], trade_ids: list[str]) -> NewKeys:
        commands = self._commands
        request_ids = [commands.request_ids[row] for row in fresh]
        external_ids = [commands.external_ids[row] for row in fresh]
        hashes = [commands.hashes[row] for row in fresh]
        sources = [commands.sources[row] for row in fresh]
        return NewKeys(
            request_ids=list(filter(None, request_ids)),
            request_hashes=list(compress(hashes, request_ids)),
            request_trades=list(compress(trade_ids, request_ids)),
            sources=list(compress(sources, external_ids)),
            external_ids=list(filter(None, external_ids)),
            external_hashes=list(compress(hashes, external_ids)),
            external_trades=list(compress(trade_ids, external_ids)),
        )


def _repeat(
    body_hash: bytes,
    by_request: Key | None,
    by_external: Key | None,
    stored: Mapping[str, TradeRow],
) -> Outcome:
    """Return the first answer again, or refuse a key that was used for something else."""
    if by_request is not None and by_request.body_hash != body_hash:
        return _reused("request_id")
    if by_external is not None and by_external.body_hash != body_hash:
        return _reused("external_id")
    key = by_request or by_external
    assert key is not None
    return Booked(stored[key.trade_id], True)


def _reused(field: str) -> AlreadyExists:
    reason = "IDEMPOTENCY_KEY_REUSED" if field == "request_id" else "EXTERNAL_ID_REUSED"
    description = "was used before with another body"
    return AlreadyExists(
        reason, f"{field}: {description}", violations=[Violation(field, description, reason)]
    )
