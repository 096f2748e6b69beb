"""Rules of an instrument's fields: from what a caller gave to what is stored."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from interchange.instrument.v1.instrument_pb2 import ASSET_CLASS_EQUITY

from native import money
from services.common import currencies, markets
from services.common.errors import InvalidArgument, Violation
from services.instrument import identifiers

NAME_LENGTH_MAX = 200

_INSTRUMENT_ID = re.compile(r"[A-Z0-9.-]{1,32}")
_SYMBOL = re.compile(r"[!-~](?:[ -~]{0,14}[!-~])?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DECIMAL_FAULTS = {
    money.NOT_A_NUMBER: "is not a decimal number",
    money.TOO_MANY_DECIMALS: "has more than {scale} decimals",
    money.OUT_OF_RANGE: "is out of range",
}


@dataclass(frozen=True, slots=True)
class Details:
    """An instrument as a caller gave it: nothing is checked, decimals are text."""

    instrument_id: str
    symbol: str
    name: str
    asset_class: int
    isin: str
    cusip: str
    figi: str
    mic: str
    currency: str
    lot_size: str
    tick_size: str
    calendar: str
    output_only: tuple[str, ...] = ()
    """Fields of the server that were set all the same."""


@dataclass(frozen=True, slots=True)
class Terms:
    """An instrument as it is stored: every rule holds."""

    instrument_id: str
    symbol: str
    name: str
    isin: str
    cusip: str
    figi: str
    mic: str
    currency: str
    lot_size_micros: int
    tick_size_e8: int
    calendar: str


def checked(details: Details, only: frozenset[str] | None = None) -> Terms:
    """Return the terms, or raise InvalidArgument with every field that is wrong.

    With `only`, faults of other fields are let pass: they were there before,
    and a rule that came later must not forbid every change.
    """
    lot, lot_faults = _positive("lot_size", details.lot_size, money.QUANTITY_SCALE)
    tick, tick_faults = _positive("tick_size", details.tick_size, money.PRICE_SCALE)
    violations = [
        violation
        for violation in (*_violations(details), *lot_faults, *tick_faults)
        if only is None or _name(violation) in only | {""}
    ]
    if violations:
        first = violations[0]
        text = f"{first.field}: {first.description}"
        raise InvalidArgument(first.reason, text, violations=violations)
    return Terms(
        instrument_id=details.instrument_id,
        symbol=details.symbol,
        name=details.name,
        isin=details.isin,
        cusip=details.cusip,
        figi=details.figi,
        mic=details.mic,
        currency=details.currency,
        lot_size_micros=lot,
        tick_size_e8=tick,
        calendar=details.calendar,
    )


def details_of(terms: Terms) -> Details:
    """Return terms as a caller would give them."""
    return Details(
        instrument_id=terms.instrument_id,
        symbol=terms.symbol,
        name=terms.name,
        asset_class=ASSET_CLASS_EQUITY,
        isin=terms.isin,
        cusip=terms.cusip,
        figi=terms.figi,
        mic=terms.mic,
        currency=terms.currency,
        lot_size=lot_size_text(terms),
        tick_size=tick_size_text(terms),
        calendar=terms.calendar,
    )


def is_instrument_id(text: str) -> bool:
    """Tell whether it can be the id of an instrument."""
    return _INSTRUMENT_ID.fullmatch(text) is not None


def lot_size_text(terms: Terms) -> str:
    """Return the lot size as a decimal."""
    return _text(terms.lot_size_micros, money.QUANTITY_SCALE)


def tick_size_text(terms: Terms) -> str:
    """Return the tick size as a decimal."""
    return _text(terms.tick_size_e8, money.PRICE_SCALE)


def _violations(details: Details) -> Iterator[Violation]:
    for name in details.output_only:
        yield _wrong(name, "OUTPUT_ONLY_FIELD", "is set by the server")
    if not is_instrument_id(details.instrument_id):
        yield _wrong("instrument_id", "INVALID_INSTRUMENT_ID", f"expected {_INSTRUMENT_ID.pattern}")
    if _SYMBOL.fullmatch(details.symbol) is None:
        yield _wrong("symbol", "INVALID_SYMBOL", "expected 1 to 16 visible ASCII characters")
    if len(details.name) > NAME_LENGTH_MAX or _CONTROL.search(details.name):
        expected = f"expected at most {NAME_LENGTH_MAX} characters, none of them control characters"
        yield _wrong("name", "INVALID_NAME", expected)
    if details.asset_class != ASSET_CLASS_EQUITY:
        yield _wrong("asset_class", "UNSUPPORTED_ASSET_CLASS", "expected ASSET_CLASS_EQUITY")
    yield from _identifier_violations(details)
    if markets.zone(details.mic) is None:
        yield _wrong("mic", "INVALID_MIC", "is not the ISO 10383 code of a supported market")
    if details.calendar and markets.zone(details.calendar) is None:
        expected = "is not the ISO 10383 code of a supported market"
        yield _wrong("calendar", "INVALID_CALENDAR", expected)
    if currencies.exponent(details.currency) is None:
        yield _wrong("currency", "INVALID_CURRENCY", "is not an ISO 4217 code")


def _identifier_violations(details: Details) -> Iterator[Violation]:
    given: list[tuple[str, str, Callable[[str], bool]]] = [
        ("isin", details.isin, identifiers.is_isin),
        ("cusip", details.cusip, identifiers.is_cusip),
        ("figi", details.figi, identifiers.is_figi),
    ]
    wrong = [name for name, text, is_valid in given if text and not is_valid(text)]
    for name in wrong:
        text = f"is no {name.upper()}: its form or check digit is wrong"
        yield _wrong(name, f"INVALID_{name.upper()}", text)
    if not (details.isin or details.cusip or details.figi):
        text = "expected at least one of isin, cusip and figi"
        yield Violation("instrument", text, "IDENTIFIER_MISSING")
    both = details.isin and details.cusip and not {"isin", "cusip"} & set(wrong)
    if both and not identifiers.agree(details.isin, details.cusip):
        text = "isin and cusip name different securities"
        yield Violation("instrument", text, "IDENTIFIERS_DISAGREE")


def _positive(name: str, text: str, scale: int) -> tuple[int, list[Violation]]:
    values, statuses = money.parse_decimals([text], scale)
    value, status = int(values[0]), int(statuses[0])
    if status != money.OK:
        expected = _DECIMAL_FAULTS[status].format(scale=scale)
    elif value <= 0:
        expected = f"was {text}, expected > 0"
    else:
        return value, []
    return 0, [_wrong(name, f"INVALID_{name.upper()}", expected)]


def _wrong(name: str, reason: str, description: str) -> Violation:
    return Violation(f"instrument.{name}", description, reason)


def _name(violation: Violation) -> str:
    return violation.field.partition(".")[2]


def _text(value: int, scale: int) -> str:
    return money.format_decimals(np.array([value], np.int64), scale)[0]
