"""What a transfer is: its rules, from what a caller gave to what is stored."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

import numpy as np
from interchange.account.v1 import account_pb2

from native import money
from services.account.domain import refuse, text_violations
from services.common import currencies
from services.common.errors import Violation

SIGNS: Mapping[int, int] = {
    account_pb2.TRANSFER_DIRECTION_DEPOSIT: 1,
    account_pb2.TRANSFER_DIRECTION_WITHDRAWAL: -1,
}

_INSTRUMENT_ID = re.compile(r"[A-Z0-9.-]{1,32}")
_FAULTS = {
    money.NOT_A_NUMBER: "is not a number: units and nanos differ in sign, or nanos are too large",
    money.TOO_MANY_DECIMALS: "has more decimals than its unit",
    money.OUT_OF_RANGE: "is out of range",
}


@dataclass(frozen=True, slots=True)
class Amount:
    """Money as a caller gave it."""

    currency: str
    units: int
    nanos: int


@dataclass(frozen=True, slots=True)
class Security:
    """A quantity of an instrument as a caller gave it."""

    instrument_id: str
    quantity: str
    cost: Amount | None


@dataclass(frozen=True, slots=True)
class TransferDetails:
    """A transfer as a caller gave it: nothing is checked."""

    account_id: str
    repeated_account_id: str
    """The account as the transfer itself names it; empty when it doesn't."""
    direction: int
    asset: Amount | Security | None
    value_date: tuple[int, int, int] | None
    """Year, month, day."""
    description: str
    output_only: tuple[str, ...] = ()
    """Fields of the server that were set all the same."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What is moved, every rule holds."""

    account_id: str
    asset: str
    """Currency code or instrument id."""
    is_cash: bool
    amount: int
    """Deposits positive; minor units for cash, 1e-6 units for securities."""
    cost_currency: str
    cost_minor: int
    value_date: date
    description: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer as it is stored."""

    transfer_id: str
    terms: Terms
    sequence: int
    """Number of its event among those of the account."""
    create_time: datetime


def checked(details: TransferDetails, today: date) -> Terms:
    """Return the terms of a transfer; raises InvalidArgument with every wrong field."""
    return _Check(details, today).terms()


@dataclass(slots=True)
class _Check:
    """One transfer being checked: what is wrong gathers while values are read."""

    details: TransferDetails
    today: date
    violations: list[Violation] = field(default_factory=list)

    def terms(self) -> Terms:
        details = self.details
        self._server_fields()
        sign = SIGNS.get(details.direction, 0)
        if not sign:
            self._wrong("direction", "INVALID_DIRECTION", "expected a deposit or a withdrawal")
        asset, amount, cost = self._moved(details.asset, sign)
        value_date = self._value_date()
        self.violations += text_violations("transfer.description", details.description)
        refuse(self.violations)
        return Terms(
            account_id=details.account_id,
            asset=asset,
            is_cash=isinstance(details.asset, Amount),
            amount=sign * amount,
            cost_currency=cost[0],
            cost_minor=cost[1],
            value_date=value_date,
            description=details.description,
        )

    def _server_fields(self) -> None:
        for name in self.details.output_only:
            self._wrong(name, "OUTPUT_ONLY_FIELD", "is set by the server")
        if self.details.repeated_account_id not in ("", self.details.account_id):
            self._wrong("account_id", "ACCOUNT_MISMATCH", "differs from the account of the request")

    def _moved(
        self, asset: Amount | Security | None, sign: int
    ) -> tuple[str, int, tuple[str, int]]:
        """Return asset, amount and cost."""
        if asset is None:
            self._wrong("asset", "ASSET_MISSING", "expected cash or security")
            return "", 0, ("", 0)
        if isinstance(asset, Amount):
            return asset.currency, self._minor("cash", asset, at_least=1), ("", 0)
        if _INSTRUMENT_ID.fullmatch(asset.instrument_id) is None:
            text = f"expected {_INSTRUMENT_ID.pattern}"
            self._wrong("security.instrument_id", "INVALID_INSTRUMENT_ID", text)
        quantity = self._quantity(asset.quantity)
        if asset.cost is None:
            return asset.instrument_id, quantity, ("", 0)
        if sign < 0:
            text = "a withdrawal leaves at carried cost"
            self._wrong("security.cost", "COST_NOT_ALLOWED", text)
        cost = self._minor("security.cost", asset.cost, at_least=0)
        return asset.instrument_id, quantity, (asset.cost.currency, cost)

    def _minor(self, name: str, amount: Amount, at_least: int) -> int:
        """Return an amount in minor units."""
        exponent = currencies.exponent(amount.currency)
        if exponent is None:
            text = "is not an ISO 4217 code"
            self._wrong(f"{name}.currency_code", "INVALID_CURRENCY", text)
            return 0
        columns = np.array([amount.units], np.int64), np.array([amount.nanos], np.int64)
        values, statuses = money.money_to_minor(*columns, np.array([exponent], np.uint8))
        value, status = int(values[0]), int(statuses[0])
        if status != money.OK:
            self._wrong(name, "INVALID_AMOUNT", _FAULTS[status])
        elif value < at_least:
            text = "was negative" if at_least == 0 else "was not positive"
            self._wrong(name, "INVALID_AMOUNT", text)
        return value

    def _quantity(self, text: str) -> int:
        values, statuses = money.parse_decimals([text], money.QUANTITY_SCALE)
        value, status = int(values[0]), int(statuses[0])
        if status == money.NOT_A_NUMBER:
            self._wrong("security.quantity", "INVALID_QUANTITY", "is not a decimal number")
        elif status == money.TOO_MANY_DECIMALS:
            text = f"has more than {money.QUANTITY_SCALE} decimals"
            self._wrong("security.quantity", "INVALID_QUANTITY", text)
        elif status != money.OK:
            self._wrong("security.quantity", "INVALID_QUANTITY", _FAULTS[status])
        elif value <= 0:
            self._wrong("security.quantity", "INVALID_QUANTITY", f"was {text}, expected > 0")
        return value

    def _value_date(self) -> date:
        given = self.details.value_date
        if given is None:
            return self.today
        try:
            day = date(*given)
        except (ValueError, OverflowError):
            self._wrong("value_date", "INVALID_VALUE_DATE", "is not a day of the calendar")
            return self.today
        if day > self.today:
            text = f"was {day}, expected at most {self.today}"
            self._wrong("value_date", "VALUE_DATE_IN_FUTURE", text)
        return day

    def _wrong(self, name: str, reason: str, description: str) -> None:
        self.violations.append(Violation(f"transfer.{name}", description, reason))
