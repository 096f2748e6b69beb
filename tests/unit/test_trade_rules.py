"""Every bad input has its own reason and field, and writes nothing."""

from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money

from tests.unit.trade_fakes import Desk, order

INVALID = grpc.StatusCode.INVALID_ARGUMENT
STATE = grpc.StatusCode.FAILED_PRECONDITION
MISSING = grpc.StatusCode.NOT_FOUND

CASES: list[tuple[dict[str, Any], str, str, grpc.StatusCode]] = [
    ({"account_id": "NOBODY"}, "account_id", "ACCOUNT_NOT_FOUND", MISSING),
    ({"account_id": "SHUT"}, "account_id", "ACCOUNT_CLOSED", STATE),
    ({"account_id": ""}, "account_id", "ACCOUNT_ID_INVALID", INVALID),
    ({"account_id": "A\0B"}, "account_id", "ACCOUNT_ID_INVALID", INVALID),
    ({"account_id": "A" * 33}, "account_id", "ACCOUNT_ID_INVALID", INVALID),
    ({"instrument_id": "NONE"}, "instrument_id", "INSTRUMENT_NOT_FOUND", MISSING),
    ({"instrument_id": "HALT"}, "instrument_id", "INSTRUMENT_HALTED", STATE),
    ({"instrument_id": "DEAD"}, "instrument_id", "INSTRUMENT_EXPIRED", STATE),
    ({"instrument_id": ""}, "instrument_id", "INSTRUMENT_ID_INVALID", INVALID),
    ({"side": 0}, "side", "SIDE_MISSING", INVALID),
    ({"side": 3}, "side", "SIDE_UNKNOWN", INVALID),
    ({"side": -1}, "side", "SIDE_UNKNOWN", INVALID),
    ({"quantity": ""}, "quantity", "QUANTITY_MISSING", INVALID),
    ({"quantity": "0"}, "quantity", "QUANTITY_NOT_POSITIVE", INVALID),
    ({"quantity": "-0"}, "quantity", "QUANTITY_NOT_POSITIVE", INVALID),
    ({"quantity": "-5"}, "quantity", "QUANTITY_NOT_POSITIVE", INVALID),
    ({"quantity": "many"}, "quantity", "QUANTITY_NOT_A_NUMBER", INVALID),
    ({"quantity": "NaN"}, "quantity", "QUANTITY_NOT_A_NUMBER", INVALID),
    ({"quantity": "1.0000001"}, "quantity", "QUANTITY_TOO_MANY_DECIMALS", INVALID),
    ({"quantity": "1.5"}, "quantity", "QUANTITY_OFF_LOT", INVALID),
    ({"quantity": "1000000001"}, "quantity", "QUANTITY_OUT_OF_RANGE", INVALID),
    ({"quantity": "1e40"}, "quantity", "QUANTITY_OUT_OF_RANGE", INVALID),
    ({"price": ""}, "price", "PRICE_MISSING", INVALID),
    ({"price": "0"}, "price", "PRICE_NOT_POSITIVE", INVALID),
    ({"price": "ten"}, "price", "PRICE_NOT_A_NUMBER", INVALID),
    ({"price": "0.000000001"}, "price", "PRICE_TOO_MANY_DECIMALS", INVALID),
    ({"price": "49.18001"}, "price", "PRICE_OFF_TICK", INVALID),
    ({"quantity": "1000000000", "price": "1000000000"}, "price",
     "GROSS_AMOUNT_OUT_OF_RANGE", INVALID),
    ({"quantity": "1", "price": "0.0001"}, "price", "GROSS_AMOUNT_ZERO", INVALID),
    ({"currency": "EUR"}, "currency", "CURRENCY_MISMATCH", INVALID),
    ({"currency": ""}, "currency", "CURRENCY_MISMATCH", INVALID),
    ({"fees": Money(currency_code="EUR", units=1)}, "fees", "FEES_CURRENCY_MISMATCH", INVALID),
    ({"fees": Money(currency_code="USD", units=-1)}, "fees", "FEES_NEGATIVE", INVALID),
    ({"fees": Money(currency_code="USD", nanos=1)}, "fees", "FEES_TOO_MANY_DECIMALS", INVALID),
    ({"fees": Money(currency_code="USD", units=1, nanos=-5)}, "fees", "FEES_NOT_A_NUMBER",
     INVALID),
    ({"trade_time": "2026-03-02T15:00:03Z"}, "trade_time", "TRADE_TIME_IN_FUTURE", INVALID),
    ({"trade_time": Timestamp(seconds=-1)}, "trade_time", "TRADE_TIME_INVALID", INVALID),
    ({"trade_time": Timestamp(seconds=2**62)}, "trade_time", "TRADE_TIME_IN_FUTURE", INVALID),
    ({"trade_time": Timestamp(nanos=-7)}, "trade_time", "TRADE_TIME_INVALID", INVALID),
    ({"venue": "nyse"}, "venue", "VENUE_INVALID", INVALID),
    ({"request_id": ""}, "request_id", "IDEMPOTENCY_KEY_MISSING", INVALID),
    ({"request_id": "x" * 65}, "request_id", "REQUEST_ID_INVALID", INVALID),
    ({"request_id": "a\0b"}, "request_id", "REQUEST_ID_INVALID", INVALID),
    ({"external_id": "t1"}, "external_source", "EXTERNAL_SOURCE_INVALID", INVALID),
    ({"external_source": "tape"}, "external_source", "EXTERNAL_SOURCE_INVALID", INVALID),
    ({"external_source": "tape", "external_id": "\n"}, "external_id", "EXTERNAL_ID_INVALID",
     INVALID),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "field", "reason", "status"),
    CASES,
    ids=[f"{c[2]}-{n}" for n, c in enumerate(CASES)],
)
async def test_bad_input_is_refused_by_name(
    changes: dict[str, Any], field: str, reason: str, status: grpc.StatusCode
) -> None:
    error = await Desk().refusal(order(**changes))

    assert (field, reason) in [(v.field, v.reason) for v in error.violations]
    assert error.status == status
    assert error.reason == reason


async def test_all_wrong_fields_are_named_at_once() -> None:
    error = await Desk().refusal(order(quantity="0", price="x", side=9, currency="EUR"))

    assert {violation.field for violation in error.violations} == {"quantity", "price", "side"}


async def test_instrument_errors_do_not_hide_account_errors() -> None:
    error = await Desk().refusal(order(account_id="NOBODY", instrument_id="NONE"))

    assert {violation.field for violation in error.violations} == {"account_id", "instrument_id"}
