"""What an account is: its rules, from what a caller gave to what is stored."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from interchange.account.v1 import account_pb2

from services.common import currencies
from services.common.errors import InvalidArgument, Violation

TEXT_LENGTH_MAX = 200
"""Characters of a display name and of a description."""

_ACCOUNT_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Kind(StrEnum):
    """Whose account it is."""

    CLIENT = "CLIENT"
    HOUSE = "HOUSE"


class CostMethod(StrEnum):
    """How the cost of what is sold is found."""

    AVERAGE = "AVERAGE"
    FIFO = "FIFO"


class Status(StrEnum):
    """Whether it may trade."""

    OPEN = "OPEN"
    CLOSED = "CLOSED"


KINDS: Mapping[int, Kind] = {
    account_pb2.ACCOUNT_KIND_UNSPECIFIED: Kind.CLIENT,
    account_pb2.ACCOUNT_KIND_CLIENT: Kind.CLIENT,
    account_pb2.ACCOUNT_KIND_HOUSE: Kind.HOUSE,
}
COST_METHODS: Mapping[int, CostMethod] = {
    account_pb2.COST_METHOD_UNSPECIFIED: CostMethod.AVERAGE,
    account_pb2.COST_METHOD_AVERAGE: CostMethod.AVERAGE,
    account_pb2.COST_METHOD_FIFO: CostMethod.FIFO,
}


@dataclass(frozen=True, slots=True)
class Details:
    """An account as a caller gave it: nothing is checked."""

    account_id: str
    display_name: str
    kind: int
    base_currency: str
    cost_method: int
    output_only: tuple[str, ...] = ()
    """Fields of the server that were set all the same."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account as it is stored: every rule holds."""

    account_id: str
    display_name: str
    kind: Kind
    base_currency: str
    cost_method: CostMethod
    status: Status
    version: int
    create_time: datetime


def create(details: Details, now: datetime) -> Account:
    """Return a new account: open, version 1.

    Raises InvalidArgument with every field that is wrong.
    """
    refuse(list(_violations(details)))
    return Account(
        account_id=details.account_id,
        display_name=details.display_name,
        kind=KINDS[details.kind],
        base_currency=details.base_currency,
        cost_method=COST_METHODS[details.cost_method],
        status=Status.OPEN,
        version=1,
        create_time=now,
    )


def refuse(violations: Sequence[Violation]) -> None:
    """Raise InvalidArgument with all violations, if there are any."""
    if violations:
        first = violations[0]
        text = f"{first.field}: {first.description}"
        raise InvalidArgument(first.reason, text, violations=violations)


def is_account_id(text: str) -> bool:
    """Tell whether it can be the id of an account."""
    return _ACCOUNT_ID.fullmatch(text) is not None


def text_violations(field: str, text: str) -> Iterator[Violation]:
    """Yield what is wrong with free text."""
    if len(text) > TEXT_LENGTH_MAX or _CONTROL.search(text):
        expected = f"expected at most {TEXT_LENGTH_MAX} characters, none of them control characters"
        reason = f"INVALID_{field.rpartition('.')[2].upper()}"
        yield Violation(field, expected, reason)


def _violations(details: Details) -> Iterator[Violation]:
    for name in details.output_only:
        yield Violation(f"account.{name}", "is set by the server", "OUTPUT_ONLY_FIELD")
    if not is_account_id(details.account_id):
        yield Violation(
            "account.account_id", f"expected {_ACCOUNT_ID.pattern}", "INVALID_ACCOUNT_ID"
        )
    yield from text_violations("account.display_name", details.display_name)
    if details.kind not in KINDS:
        yield Violation("account.kind", f"{details.kind} is not a kind", "INVALID_KIND")
    if currencies.exponent(details.base_currency) is None:
        yield Violation("account.base_currency", "is not an ISO 4217 code", "INVALID_CURRENCY")
    if details.cost_method not in COST_METHODS:
        text = f"{details.cost_method} is not a cost method"
        yield Violation("account.cost_method", text, "INVALID_COST_METHOD")
