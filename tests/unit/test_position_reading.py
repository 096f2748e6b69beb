import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import ResourceExhausted, Unavailable
from services.common.work import Work, WorkUnits
from services.position import responses, watch
from services.position.costs import average_cost_e8, decimal_text
from services.position.reads import ChangeRow, PositionReads, PositionRow
from services.position.watch import Watches

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
int64s = st.integers(-(1 << 63), (1 << 63) - 1)


def row(instrument: str, sequence: int, quantity: int = 1_500_000, cost: int = 333) -> PositionRow:
    return PositionRow("A", instrument, "USD", quantity, cost, -5, 1, sequence, MOMENT)


class FakeReads(PositionReads):
    """The positions of one account, as lists that tests change."""

    def __init__(self) -> None:
        self.rows: list[PositionRow] = []
        self.fail = False

    async def one(self, tenant_id: str, account_id: str, instrument_id: str) -> PositionRow | None:
        raise NotImplementedError

    async def page(
        self, tenant_id: str, account_id: str, after: tuple[str, str], limit: int
    ) -> list[PositionRow]:
        raise NotImplementedError

    async def changes(
        self, tenant_id: str, account_id: str, instrument_id: str, before: int, limit: int
    ) -> list[ChangeRow]:
        raise NotImplementedError

    async def of_account(self, tenant_id: str, account_id: str) -> list[PositionRow]:
        return list(self.rows)

    async def changed(
        self, tenant_id: str, accounts: Sequence[str], seen: Sequence[int]
    ) -> list[PositionRow]:
        if self.fail:
            raise OSError
        return [one for one in self.rows if one.sequence > seen[0]]


class FakeUnits(WorkUnits[PositionReads]):
    def __init__(self, reads: FakeReads) -> None:
        self.reads = reads

    def tenant(self, tenant_id: str) -> AbstractAsyncContextManager[Work[PositionReads]]:
        raise NotImplementedError

    @asynccontextmanager
    async def reading(self, tenant_id: str) -> AsyncIterator[PositionReads]:
        yield self.reads


@pytest.fixture
def reads() -> FakeReads:
    return FakeReads()


@pytest.fixture
def draining() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def watches(reads: FakeReads, draining: asyncio.Event) -> Watches:
    return Watches(FakeUnits(reads), draining)


async def test_watch_begins_with_all_positions_then_sends_what_changed(
    watches: Watches, reads: FakeReads
) -> None:
    reads.rows = [row("X", 1), row("Y", 2)]
    async with aclosing(watches.watch("demo", "A")) as stream:
        assert await anext(stream) == [row("X", 1), row("Y", 2)]
        reads.rows = [row("X", 3), row("Y", 2)]
        assert await anext(stream) == [row("X", 3)]


async def test_slow_reader_gets_the_latest_state_once(watches: Watches, reads: FakeReads) -> None:
    async with aclosing(watches.watch("demo", "A")) as stream:
        assert await anext(stream) == []
        for sequence in range(1, 4):
            reads.rows = [row("X", sequence)]
            await asyncio.sleep(0.3)
        assert await anext(stream) == [row("X", 3)]


async def test_watch_ends_when_the_server_drains(watches: Watches, draining: asyncio.Event) -> None:
    async with aclosing(watches.watch("demo", "A")) as stream:
        await anext(stream)
        draining.set()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_watch_fails_when_the_database_does(watches: Watches, reads: FakeReads) -> None:
    async with aclosing(watches.watch("demo", "A")) as stream:
        await anext(stream)
        reads.fail = True
        with pytest.raises(Unavailable):
            await anext(stream)


async def test_watchers_of_a_process_are_limited(
    watches: Watches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "WATCHERS_MAX", 1)
    async with aclosing(watches.watch("demo", "A")) as first:
        await anext(first)
        with pytest.raises(ResourceExhausted):
            await anext(watches.watch("demo", "A"))
    async with aclosing(watches.watch("demo", "A")) as again:
        assert await anext(again) == []


@given(int64s, int64s.filter(bool), st.integers(0, 4))
def test_average_cost_is_the_exact_quotient_rounded_half_to_even(
    cost: int, quantity: int, exponent: int
) -> None:
    exact = Fraction(cost, 10**exponent) / Fraction(quantity, 10**6)

    assert average_cost_e8(cost, quantity, exponent) == round(exact * 10**8)


def test_average_cost_of_a_flat_position_is_zero() -> None:
    assert average_cost_e8(0, 0, 2) == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (-150_000_000, "-1.5"), (1, "0.00000001"), (10**30, "1" + "0" * 22)],
)
def test_decimal_text_is_the_shortest(value: int, text: str) -> None:
    assert decimal_text(value, 8) == text


def test_position_is_shown_with_exact_decimals() -> None:
    (shown,) = responses.positions([row("X", 7)])

    assert shown.quantity.value == "1.5"
    assert (shown.open_cost.units, shown.open_cost.nanos) == (3, 330_000_000)
    assert shown.average_cost.value == "2.22"
    assert (shown.realized_pnl.units, shown.realized_pnl.nanos) == (0, -50_000_000)
    assert (shown.sequence, shown.update_time.seconds) == (7, 1_767_225_600)
