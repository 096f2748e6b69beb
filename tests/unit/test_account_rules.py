"""Rules of accounts and transfers."""

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from interchange.account.v1 import account_pb2

from services.account import domain, events, transfers
from services.account.domain import Details, Status
from services.account.transfers import Amount, Security, Transfer, TransferDetails
from services.common import errors

NOW = datetime(2026, 1, 5, 23, 59, tzinfo=UTC)
TODAY = date(2026, 1, 5)
DEPOSIT = account_pb2.TRANSFER_DIRECTION_DEPOSIT
WITHDRAWAL = account_pb2.TRANSFER_DIRECTION_WITHDRAWAL


def details(account_id: str = "A-1", **changes: Any) -> Details:
    return replace(Details(account_id, "Ann", 0, "USD", 0), **changes)


def moved(asset: Amount | Security | None = None, **changes: Any) -> TransferDetails:
    asset = asset or Amount("USD", 12, 340_000_000)
    return replace(TransferDetails("A-1", "", DEPOSIT, asset, None, ""), **changes)


def faults(one: TransferDetails) -> list[tuple[str, str]]:
    with pytest.raises(errors.InvalidArgument) as caught:
        transfers.checked(one, TODAY)
    return [(violation.field, violation.reason) for violation in caught.value.violations]


def test_account_that_says_nothing_is_a_clients_at_average_cost() -> None:
    account = domain.create(details(), NOW)

    assert (account.kind, account.cost_method) == (domain.Kind.CLIENT, domain.CostMethod.AVERAGE)
    assert (account.status, account.version) == (Status.OPEN, 1)


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"account_id": ""}, "account_id", "INVALID_ACCOUNT_ID"),
        ({"account_id": "a b"}, "account_id", "INVALID_ACCOUNT_ID"),
        ({"account_id": "a" * 33}, "account_id", "INVALID_ACCOUNT_ID"),
        ({"display_name": "n" * 201}, "display_name", "INVALID_DISPLAY_NAME"),
        ({"display_name": "\x00"}, "display_name", "INVALID_DISPLAY_NAME"),
        ({"kind": 9}, "kind", "INVALID_KIND"),
        ({"base_currency": "ABC"}, "base_currency", "INVALID_CURRENCY"),
        ({"cost_method": 9}, "cost_method", "INVALID_COST_METHOD"),
        ({"output_only": ("version",)}, "version", "OUTPUT_ONLY_FIELD"),
    ],
)
def test_wrong_field_of_an_account_is_named(
    changes: dict[str, Any], field: str, reason: str
) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        domain.create(details(**changes), NOW)
    found = [(violation.field, violation.reason) for violation in caught.value.violations]
    assert found == [(f"account.{field}", reason)]


def test_cash_is_signed_minor_units_dated_today() -> None:
    terms = transfers.checked(moved(direction=WITHDRAWAL), TODAY)

    assert (terms.asset, terms.is_cash, terms.amount) == ("USD", True, -1234)
    assert terms.value_date == TODAY


def test_security_is_signed_micros_with_its_cost() -> None:
    security = Security("IBM", "10.5", Amount("JPY", 1500, 0))

    terms = transfers.checked(moved(security), TODAY)

    assert (terms.asset, terms.is_cash, terms.amount) == ("IBM", False, 10_500_000)
    assert (terms.cost_currency, terms.cost_minor) == ("JPY", 1500)


@pytest.mark.parametrize(
    ("one", "field", "reason"),
    [
        (moved(direction=0), "direction", "INVALID_DIRECTION"),
        (moved(direction=9), "direction", "INVALID_DIRECTION"),
        (replace(moved(), asset=None), "asset", "ASSET_MISSING"),
        (moved(Amount("USD", 0, 0)), "cash", "INVALID_AMOUNT"),
        (moved(Amount("USD", -1, 0)), "cash", "INVALID_AMOUNT"),
        (moved(Amount("USD", 1, -1)), "cash", "INVALID_AMOUNT"),
        (moved(Amount("USD", 0, 1)), "cash", "INVALID_AMOUNT"),
        (moved(Amount("USD", 2**63 - 1, 0)), "cash", "INVALID_AMOUNT"),
        (moved(Amount("JPY", 1, 500_000_000)), "cash", "INVALID_AMOUNT"),
        (moved(Amount("", 1, 0)), "cash.currency_code", "INVALID_CURRENCY"),
        (moved(Security("ibm", "1", None)), "security.instrument_id", "INVALID_INSTRUMENT_ID"),
        (moved(Security("IBM", "", None)), "security.quantity", "INVALID_QUANTITY"),
        (moved(Security("IBM", "0", None)), "security.quantity", "INVALID_QUANTITY"),
        (moved(Security("IBM", "0.0000001", None)), "security.quantity", "INVALID_QUANTITY"),
        (moved(Security("IBM", "1e30", None)), "security.quantity", "INVALID_QUANTITY"),
        (
            moved(Security("IBM", "1", Amount("USD", -1, 0))),
            "security.cost",
            "INVALID_AMOUNT",
        ),
        (
            moved(Security("IBM", "1", Amount("USD", 1, 0)), direction=WITHDRAWAL),
            "security.cost",
            "COST_NOT_ALLOWED",
        ),
        (moved(value_date=(2026, 1, 6)), "value_date", "VALUE_DATE_IN_FUTURE"),
        (moved(value_date=(2026, 2, 30)), "value_date", "INVALID_VALUE_DATE"),
        (moved(value_date=(0, 0, 0)), "value_date", "INVALID_VALUE_DATE"),
        (moved(description="d" * 201), "description", "INVALID_DESCRIPTION"),
        (moved(repeated_account_id="A-2"), "account_id", "ACCOUNT_MISMATCH"),
        (moved(output_only=("sequence",)), "sequence", "OUTPUT_ONLY_FIELD"),
    ],
)
def test_wrong_field_of_a_transfer_is_named(one: TransferDetails, field: str, reason: str) -> None:
    assert faults(one) == [(f"transfer.{field}", reason)]


def test_all_wrong_fields_of_a_transfer_are_named_at_once() -> None:
    security = Security("?", "x", Amount("?", 1, 0))

    found = faults(moved(security, direction=0, value_date=(2027, 1, 1)))

    assert len(found) == 5


def test_message_of_a_withdrawn_security_has_no_cost() -> None:
    terms = transfers.checked(moved(Security("IBM", "2", None), direction=WITHDRAWAL), TODAY)

    message = events.transfer_message(Transfer("id", terms, 2, NOW))

    assert message.direction == WITHDRAWAL
    assert message.security.quantity.value == "2"
    assert not message.security.HasField("cost")
