import random

import pytest
from interchange.position.v1.position_events_pb2 import PositionChanged

from services.common.events import Event, EventColumns
from services.position.domain import Unappliable
from tests.unit.test_position_scene import MICROS, Feed, MemoryBooks, apply

XYZ = ("demo", "A", "XYZ")
FIFO = frozenset({"A", "B"})


def changed(columns: list[EventColumns]) -> list[PositionChanged]:
    """Return the events on position-events."""
    return [PositionChanged.FromString(payload) for c in columns for payload in c.payloads]


async def test_buy_opens_a_long_position_at_its_gross_amount() -> None:
    books, feed = MemoryBooks(), Feed()

    await apply(books, [feed.trade(100, 100_000)])

    assert books.held[XYZ] == ("USD", 100 * MICROS, 100_000, 0, 1)


async def test_partial_sale_at_average_cost_realizes_the_difference() -> None:
    books, feed = MemoryBooks(), Feed()

    await apply(books, [feed.trade(100, 1_000), feed.trade(100, 2_000), feed.trade(-100, 1_800)])

    assert books.held[XYZ] == ("USD", 100 * MICROS, 1_500, 300, 3)


async def test_partial_sale_first_in_first_out_uses_the_oldest_lot() -> None:
    books, feed = MemoryBooks(), Feed(FIFO)

    await apply(books, [feed.trade(100, 1_000), feed.trade(100, 2_000)])
    await apply(books, [feed.trade(-150, 2_700)])

    assert books.held[XYZ] == ("USD", 50 * MICROS, 1_000, 700, 3)
    assert books.open[XYZ] == [(50 * MICROS, 1_000, 2)]


@pytest.mark.parametrize("fifo", [frozenset(), FIFO])
async def test_sale_that_crosses_zero_closes_then_opens_a_short(fifo: frozenset[str]) -> None:
    books, feed = MemoryBooks(), Feed(fifo)

    await apply(books, [feed.trade(100, 1_000), feed.trade(-150, 1_800)])

    assert books.held[XYZ] == ("USD", -50 * MICROS, -600, 200, 2)
    assert books.open[XYZ] == ([(-50 * MICROS, -600, 2)] if fifo else [])


async def test_withdrawal_leaves_at_carried_cost_and_realizes_nothing() -> None:
    books, feed = MemoryBooks(), Feed()

    await apply(
        books,
        [feed.account(), feed.transfer(100, 5_000, currency="USD"), feed.transfer(-40)],
    )

    assert books.held[XYZ] == ("USD", 60 * MICROS, 3_000, 0, 2)


async def test_cash_transfer_touches_no_position() -> None:
    books, feed = MemoryBooks(), Feed()

    caused = await apply(books, [feed.account(), feed.transfer(5, is_cash=True)])

    assert (books.held, books.changes, caused) == ({}, [], [])


async def test_transfer_before_any_trade_uses_the_method_of_the_account() -> None:
    books, feed = MemoryBooks(), Feed(FIFO)

    await apply(books, [feed.account(), feed.transfer(10, 100), feed.transfer(10, 300)])
    await apply(books, [feed.trade(-10, 500)])

    assert books.open[XYZ] == [(10 * MICROS, 300, 2)]


async def test_transfer_of_an_account_that_nobody_created_is_refused() -> None:
    with pytest.raises(Unappliable, match="cost method of account A is not known"):
        await apply(MemoryBooks(), [Feed().transfer(10, 100)])


async def test_currency_comes_from_the_first_event_that_names_one() -> None:
    books, feed = MemoryBooks(), Feed()

    await apply(books, [feed.account(), feed.transfer(10), feed.trade(10, 100, currency="JPY")])

    assert books.held[XYZ][0] == "JPY"


async def test_cost_in_a_second_currency_is_refused_by_name() -> None:
    books, feed = MemoryBooks(), Feed()
    await apply(books, [feed.trade(1, 1)])

    with pytest.raises(Unappliable, match="event 2 of trade-events of demo:A: currency was EUR"):
        await apply(books, [feed.trade(1, 1, currency="EUR")])


async def test_result_beyond_64_bits_is_refused_and_nothing_changes() -> None:
    books, feed = MemoryBooks(), Feed()
    await apply(books, [feed.trade(1, (1 << 63) - 1)])
    before = dict(books.held)

    with pytest.raises(Unappliable, match="exceeds 64 bits"):
        await apply(books, [feed.trade(1, 1)])

    assert books.held == before


async def test_fills_of_one_position_make_one_event_numbered_per_account() -> None:
    books, feed = MemoryBooks(), Feed()
    batch = [
        feed.trade(1, 10),
        feed.trade(1, 10, instrument="ABC"),
        feed.trade(1, 10),
        feed.trade(1, 10, account="B", tenant="other"),
    ]

    first, second = await apply(books, batch), await apply(books, [feed.trade(1, 10)])

    assert [(c.tenant_id, c.keys, c.sequences) for c in [*first, *second]] == [
        ("demo", ["A", "A"], [1, 2]),
        ("other", ["B"], [1]),
        ("demo", ["A"], [3]),
    ]
    told = changed(first)[0]
    assert (told.quantity_micros, told.version, told.change_sequence) == (2 * MICROS, 2, 3)
    assert (told.trade_sequence, told.currency, told.open_cost_minor) == (3, "USD", 20)


def random_events(seed: int, count: int) -> list[Event]:
    """Trades and transfers of four accounts, of both methods, in three instruments."""
    rng, feed = random.Random(seed), Feed(FIFO)
    events = [feed.account(account) for account in "ABCD"]
    for _ in range(count):
        account, instrument = rng.choice("ABCD"), rng.choice(["X", "Y", "Z"])
        quantity = rng.choice([1, -1]) * rng.randint(1, 100)
        if rng.random() < 0.2:
            cost = rng.randint(0, 1_000) if quantity > 0 else 0
            events.append(feed.transfer(quantity, cost, account, instrument, currency="USD"))
        else:
            events.append(feed.trade(quantity, rng.randint(1, 9_999), account, instrument))
    return events


@pytest.mark.parametrize("seed", range(20))
async def test_any_split_into_batches_gives_the_same_rows(seed: int) -> None:
    events, rng = random_events(seed, 150), random.Random(seed)
    whole, split = MemoryBooks(), MemoryBooks()

    await apply(whole, events)
    rest = events
    while rest:
        size = rng.randint(1, 30)
        await apply(split, rest[:size])
        rest = rest[size:]

    assert split.held == whole.held
    assert split.open == whole.open
    assert sorted(split.changes) == sorted(whole.changes)
    assert {k: v[1] for k, v in split.accounts.items()} == {
        k: v[1] for k, v in whole.accounts.items()
    }


@pytest.mark.parametrize("seed", range(20))
async def test_profit_less_cost_is_what_was_received_less_what_was_paid(seed: int) -> None:
    books = MemoryBooks()
    await apply(books, random_events(seed, 150))

    paid: dict[tuple[str, str, str], int] = {}
    for row in books.changes:
        key = (row[0].decode(), row[1].decode(), row[4].decode())
        paid[key] = paid.get(key, 0) + int.from_bytes(row[9], signed=True)

    assert {key: held[3] - held[2] for key, held in books.held.items()} == {
        key: -amount for key, amount in paid.items()
    }
