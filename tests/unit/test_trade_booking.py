"""Booking with fakes: what is written, what is answered again."""

from collections.abc import Sequence
from datetime import date, timedelta

import pytest
from google.type.money_pb2 import Money
from interchange.trade.v1.trade_events_pb2 import TradeBooked

from services.common.errors import AlreadyExists, InvalidArgument, Unavailable
from services.trade.commands import Booked
from services.trade.domain import Account
from services.trade.references import References
from tests.unit.trade_fakes import Desk, MemoryTrades, order


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_trade_is_booked_with_its_event_and_keys(desk: Desk) -> None:
    row = await desk.book_one(order(fees=Money(currency_code="USD", units=1, nanos=250_000_000)))

    assert row.sequence == 1
    assert row.gross_minor == 491_800
    assert row.fee_minor == 125
    [columns] = desk.units.outboxes[0].columns
    assert (columns.topic, columns.keys, columns.sequences) == ("trade-events", ["ACC1"], [1])
    event = TradeBooked.FromString(columns.payloads[0])
    assert event.trade_id == event.event_id == row.trade_id == columns.event_ids[0]
    assert (event.gross_minor, event.fee_minor) == (491_800, 125)


async def test_sequence_goes_on_from_the_accounts_last(desk: Desk) -> None:
    outcomes = await desk.book(
        *(order(request_id=f"r{n}", account_id="ACC2" if n % 2 else "ACC1") for n in range(6))
    )

    rows = [outcome.row for outcome in outcomes if isinstance(outcome, Booked)]
    assert [row.sequence for row in rows] == [1, 8, 2, 9, 3, 10]


async def test_gross_amount_is_rounded_half_to_even_once(desk: Desk) -> None:
    up = await desk.book_one(order(quantity="3", price="0.0050"))
    even = await desk.book_one(order(request_id="r2", quantity="5", price="0.0050"))

    assert up.gross_minor == 2
    assert even.gross_minor == 2


async def test_trade_date_is_the_markets_not_utcs(desk: Desk) -> None:
    late = await desk.book_one(order(trade_time="2026-03-02T02:30:00Z"))

    assert date(1970, 1, 1) + timedelta(late.day) == date(2026, 3, 1)


async def test_same_key_and_body_gets_the_first_answer(desk: Desk) -> None:
    first = await desk.book_one(order())
    [again] = await desk.book(order())

    assert isinstance(again, Booked)
    assert again.repeated
    assert again.row == first
    assert len(desk.repository.rows) == 1


async def test_same_key_with_another_body_is_refused(desk: Desk) -> None:
    await desk.book_one(order())
    [refused] = await desk.book(order(price="50.00"))

    assert isinstance(refused, AlreadyExists)
    assert refused.reason == "IDEMPOTENCY_KEY_REUSED"
    assert refused.violations[0].field == "request_id"


async def test_external_id_is_booked_once_whatever_the_request_id(desk: Desk) -> None:
    first = await desk.book_one(order(external_source="tape", external_id="t1"))
    [again] = await desk.book(order(request_id="other", external_source="tape", external_id="t1"))
    [refused] = await desk.book(
        order(request_id="third", external_source="tape", external_id="t1", quantity="5")
    )

    assert isinstance(again, Booked)
    assert again.row == first
    assert isinstance(refused, AlreadyExists)
    assert refused.reason == "EXTERNAL_ID_REUSED"


async def test_twins_in_one_batch_book_once(desk: Desk) -> None:
    outcomes = await desk.book(order(), order(), order(price="50.00"), order(request_id="r2"))

    first, twin, reused, other = outcomes
    assert isinstance(first, Booked)
    assert isinstance(twin, Booked)
    assert twin.repeated
    assert twin.row == first.row
    assert isinstance(reused, AlreadyExists)
    assert isinstance(other, Booked)
    assert len(desk.repository.rows) == 2


async def test_external_id_reused_within_a_batch_is_refused_by_its_name(desk: Desk) -> None:
    first = order(request_id="", external_source="tape", external_id="t1")
    other = order(request_id="", external_source="tape", external_id="t1", quantity="5")

    _, refused = await desk.book(first, other)

    assert isinstance(refused, AlreadyExists)
    assert refused.reason == "EXTERNAL_ID_REUSED"


async def test_bad_trade_among_a_thousand_leaves_the_others(desk: Desk) -> None:
    requests = [order(request_id=f"r{n}", quantity="0" if n == 500 else "1") for n in range(1000)]

    outcomes = await desk.book(*requests)

    refused = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, InvalidArgument)]
    assert refused == [500]
    assert len(desk.repository.rows) == 999
    sequences = [row.sequence for row in desk.repository.rows.values()]
    assert sequences == list(range(1, 1000))


async def test_refused_command_uses_up_no_key(desk: Desk) -> None:
    await desk.refusal(order(quantity="0"))

    assert await desk.book_one(order())


async def test_retry_after_a_halt_still_gets_the_first_answer(desk: Desk) -> None:
    first = await desk.book_one(order())
    desk.repository.listed["AIG"] = 2

    [again] = await desk.book(order())

    assert isinstance(again, Booked)
    assert again.row == first


async def test_raced_key_starts_the_batch_over(desk: Desk) -> None:
    desk.repository.races = 2

    assert (await desk.book_one(order())).sequence == 1


async def test_endless_races_end(desk: Desk) -> None:
    desk.repository.races = 1_000

    with pytest.raises(Unavailable):
        await desk.book(order())


class Arriving(References):
    """The account is on its way and arrives when somebody waits for it."""

    def __init__(self, repository: MemoryTrades) -> None:
        self.repository = repository

    async def appear(
        self, tenant_id: str, accounts: Sequence[str], instruments: Sequence[str]
    ) -> bool:
        assert list(accounts) == ["NEW"]
        self.repository.known["NEW"] = Account(True, False, 0)
        return True


async def test_account_created_a_moment_ago_may_trade(desk: Desk) -> None:
    desk.references = Arriving(desk.repository)

    outcomes = await desk.book(order(), order(request_id="r2", account_id="NEW"))

    assert all(isinstance(outcome, Booked) for outcome in outcomes)
