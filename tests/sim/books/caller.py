"""Callers who send commands, lose answers, repeat themselves and make mistakes."""

from collections.abc import Sequence

from interchange.account.v1 import account_pb2
from interchange.instrument.v1 import instrument_pb2

from services.common.errors import InterchangeError
from services.trade.booking import Outcome
from services.trade.commands import Booked
from tests.sim.books import market
from tests.sim.books.desk import Desk
from tests.sim.books.market import Move, Order
from tests.sim.books.sent import Sent, Trade, Transfer
from tests.sim.chance import Chance
from tests.sim.house import Crash

BATCH_MAX = 6
LATER = {"ACCOUNT_NOT_FOUND", "INSTRUMENT_NOT_FOUND", "INSTRUMENT_HALTED"}
"""Refusals of a good order that pass: the copy of what it names is not there yet."""

ACTIVE = instrument_pb2.INSTRUMENT_STATUS_ACTIVE
HALTED = instrument_pb2.INSTRUMENT_STATUS_HALTED


class Caller:
    """All callers of the tenant, as one."""

    def __init__(self, desk: Desk, chance: Chance) -> None:
        self.sent = Sent(fifo=dict(market.FIFO))
        self.orders: list[Order] = []
        self.moves: list[Move] = []
        self._desk, self._chance = desk, chance
        self._numbers = 0
        self._statuses: dict[str, list[int]] = {}

    async def open(self) -> None:
        """Create accounts and list instruments."""
        await self._desk.open_accounts(market.FIFO)
        for name in market.LISTINGS:
            await self._change(name, ACTIVE)

    async def halt_or_resume(self) -> None:
        """Change an instrument."""
        name = self._chance.pick(list(market.LISTINGS))
        await self._change(name, HALTED if self._statuses[name][-1] == ACTIVE else ACTIVE)

    async def close(self) -> None:
        """Let everything trade, and move every key once more.

        Who lost the last event of a key learns of it by the next one.
        """
        for name in market.LISTINGS:
            await self._change(name, ACTIVE)
        for account in market.FIFO:
            self._numbers += 1
            order = market.order(self._chance, self._numbers, account)
            move = market.move(self._chance, self._numbers, account)
            self.orders.append(order)
            self.moves.append(move)

    @property
    def unanswered(self) -> list[Order]:
        """Good orders that nobody knows to be booked."""
        return [one for one in self.orders if one.fill is not None and one.answer is None]

    @property
    def unanswered_moves(self) -> list[Move]:
        """Good transfers that nobody knows to be recorded."""
        return [one for one in self.moves if one.is_good and one.answer is None]

    async def book(self) -> None:
        """Send a batch of new orders, good and bad, and of old ones once more."""
        chance = self._chance
        batch = []
        for _ in range(chance.between(1, BATCH_MAX)):
            self._numbers += 1
            if chance.happens(0.15):
                booked = [one for one in self.orders if one.answer is not None]
                batch.append(market.flawed(chance, self._numbers, booked))
            else:
                batch.append(market.order(chance, self._numbers))
        self.orders += batch
        if chance.happens(0.5):
            batch += [chance.pick(self.orders) for _ in range(chance.between(1, 3))]
        await self.send(batch)

    async def send(self, batch: Sequence[Order]) -> None:
        """Book a batch; nobody knows what came of it when the service dies."""
        try:
            outcomes = await self._desk.book([one.request for one in batch])
        except Crash:
            self._chance.note("no answer to", len(batch), "orders")
            return
        for one, outcome in zip(batch, outcomes, strict=True):
            self._take(one, outcome)

    async def move(self) -> None:
        """Send a batch of transfers, good and bad, and old ones once more."""
        chance = self._chance
        batch = []
        for _ in range(chance.between(1, 3)):
            self._numbers += 1
            draw = market.flawed_move if chance.happens(0.15) else market.move
            batch.append(draw(chance, self._numbers))
        self.moves += batch
        if chance.happens(0.4):
            batch.append(chance.pick(self.moves))
        await self.send_moves(batch)

    async def send_moves(self, batch: Sequence[Move]) -> None:
        """Record a batch of transfers."""
        try:
            outcomes = await self._desk.transfer([one.request for one in batch])
        except Crash:
            self._chance.note("no answer to", len(batch), "transfers")
            return
        for one, outcome in zip(batch, outcomes, strict=True):
            self._take_move(one, outcome)

    def _take(self, one: Order, outcome: Outcome) -> None:
        name = one.request.request_id or one.request.external_id
        if isinstance(outcome, InterchangeError):
            self._chance.note(name, "is refused:", outcome.reason)
            if one.answer is not None or (one.fill is not None and outcome.reason not in LATER):
                self.sent.problems.append(f"{name} was refused: {outcome}")
            return
        assert isinstance(outcome, Booked)
        row = outcome.row
        self._chance.note(name, "is", row.account_id, row.sequence)
        if one.fill is None:
            self.sent.problems.append(f"{name} was booked: {one.request}")
            return
        if outcome.repeated is False and one.answer is not None:
            self.sent.problems.append(f"{name} was booked anew")
        one.answer = row.trade_id, row.sequence
        self.sent.booked(Trade(row.trade_id, one.request.account_id, row.sequence, one.fill))

    def _take_move(self, one: Move, outcome: account_pb2.Transfer | InterchangeError) -> None:
        name = one.request.request_id
        if isinstance(outcome, InterchangeError):
            self._chance.note(name, "is refused:", outcome.reason)
            if one.is_good:
                self.sent.problems.append(f"{name} was refused: {outcome}")
            return
        self._chance.note(name, "is", outcome.account_id, outcome.sequence)
        if not one.is_good:
            self.sent.problems.append(f"{name} was recorded: {one.request}")
            return
        one.answer = outcome.transfer_id, outcome.sequence
        self.sent.moved(
            Transfer(
                *(outcome.transfer_id, one.request.account_id, outcome.sequence),
                *(one.asset, one.is_cash, one.amount, one.cost_currency, one.cost),
            )
        )

    async def _change(self, name: str, status: int) -> None:
        statuses = self._statuses.setdefault(name, [])
        self._chance.note(name, "becomes", status)
        message = market.instrument(name, len(statuses) + 1, status)
        await self._desk.change_instrument(message)
        statuses.append(status)
