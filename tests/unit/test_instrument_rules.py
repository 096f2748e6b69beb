"""Rules of an instrument's fields and states."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from interchange.instrument.v1 import instrument_pb2
from stdnum import cusip, figi, isin

from services.common import errors, markets
from services.instrument import domain, identifiers, rules, seed
from services.instrument.domain import Status
from services.instrument.rules import Details

NOW = datetime(2026, 1, 5, 15, tzinfo=UTC)


def ibm(**changes: Any) -> Details:
    details = Details(
        instrument_id="IBM",
        symbol="IBM",
        name="International Business Machines",
        asset_class=instrument_pb2.ASSET_CLASS_EQUITY,
        isin="US4592001014",
        cusip="459200101",
        figi="BBG000BLNNH6",
        mic="XNYS",
        currency="USD",
        lot_size="1",
        tick_size="0.0001",
        calendar="",
    )
    return replace(details, **changes)


def faults(details: Details) -> list[tuple[str, str]]:
    with pytest.raises(errors.InvalidArgument) as caught:
        rules.checked(details)
    return [(violation.field, violation.reason) for violation in caught.value.violations]


def test_terms_are_scaled_integers() -> None:
    terms = rules.checked(ibm(lot_size="0.000001", tick_size="0.00000001"))

    assert (terms.lot_size_micros, terms.tick_size_e8) == (1, 1)
    assert rules.details_of(terms) == ibm(lot_size="0.000001", tick_size="0.00000001")


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"instrument_id": "ibm"}, "instrument_id", "INVALID_INSTRUMENT_ID"),
        ({"instrument_id": "IBM\n"}, "instrument_id", "INVALID_INSTRUMENT_ID"),
        ({"instrument_id": "A" * 33}, "instrument_id", "INVALID_INSTRUMENT_ID"),
        ({"symbol": ""}, "symbol", "INVALID_SYMBOL"),
        ({"symbol": "A" * 17}, "symbol", "INVALID_SYMBOL"),
        ({"symbol": "IBM "}, "symbol", "INVALID_SYMBOL"),
        ({"name": "n" * 201}, "name", "INVALID_NAME"),
        ({"name": "nul\x00"}, "name", "INVALID_NAME"),
        ({"asset_class": 0}, "asset_class", "UNSUPPORTED_ASSET_CLASS"),
        ({"isin": "US4592001015"}, "isin", "INVALID_ISIN"),
        ({"isin": "us4592001014"}, "isin", "INVALID_ISIN"),
        ({"cusip": "459200102"}, "cusip", "INVALID_CUSIP"),
        ({"figi": "BBG000BLNNH5"}, "figi", "INVALID_FIGI"),
        ({"mic": "XXXX"}, "mic", "INVALID_MIC"),
        ({"calendar": "xnys"}, "calendar", "INVALID_CALENDAR"),
        ({"currency": "usd"}, "currency", "INVALID_CURRENCY"),
        ({"currency": "XAU"}, "currency", "INVALID_CURRENCY"),
        ({"lot_size": "0"}, "lot_size", "INVALID_LOT_SIZE"),
        ({"lot_size": "-1"}, "lot_size", "INVALID_LOT_SIZE"),
        ({"lot_size": "0.0000001"}, "lot_size", "INVALID_LOT_SIZE"),
        ({"lot_size": ""}, "lot_size", "INVALID_LOT_SIZE"),
        ({"tick_size": "0.000000001"}, "tick_size", "INVALID_TICK_SIZE"),
        ({"tick_size": "1e99"}, "tick_size", "INVALID_TICK_SIZE"),
        ({"output_only": ("version",)}, "version", "OUTPUT_ONLY_FIELD"),
    ],
)
def test_wrong_field_is_named_with_its_reason(
    changes: dict[str, Any], field: str, reason: str
) -> None:
    assert faults(ibm(**changes)) == [(f"instrument.{field}", reason)]


def test_all_wrong_fields_are_named_at_once() -> None:
    found = faults(ibm(symbol="", mic="", currency="", tick_size="x"))

    assert [reason for _, reason in found] == [
        "INVALID_SYMBOL",
        "INVALID_MIC",
        "INVALID_CURRENCY",
        "INVALID_TICK_SIZE",
    ]


def test_instrument_needs_an_identifier() -> None:
    assert faults(ibm(isin="", cusip="", figi="")) == [("instrument", "IDENTIFIER_MISSING")]


def test_isin_and_cusip_of_two_securities_are_refused() -> None:
    assert faults(ibm(cusip="037833100")) == [("instrument", "IDENTIFIERS_DISAGREE")]


def test_identifiers_are_checked_as_their_standards_say() -> None:
    assert identifiers.is_isin("NL0010273215")
    assert identifiers.is_cusip("17275R102")
    assert identifiers.is_figi("BBG000B9XRY4")
    assert not identifiers.is_isin("NL00 10273215")
    assert not identifiers.is_cusip("17275r102")


def test_seed_holds_twenty_equities_with_right_check_digits() -> None:
    assert len(seed.requests()) == 20
    for symbol, _, isin_text, cusip_text, figi_text, mic, _ in seed.EQUITIES:
        assert isin.is_valid(isin_text), symbol
        assert not cusip_text or cusip.is_valid(cusip_text), symbol
        assert not figi_text or figi.is_valid(figi_text), symbol
        assert markets.zone(mic) is not None


def test_every_market_has_a_time_zone_that_exists() -> None:
    assert all(markets.zone(mic) is not None for mic in markets.TIME_ZONES)
    assert markets.zone("XXXX") is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (domain.halted, "INSTRUMENT_NOT_ACTIVE"),
        (domain.resumed, "INSTRUMENT_NOT_HALTED"),
    ],
)
def test_expired_instrument_stays_as_it_is(change: Any, reason: str) -> None:
    expired = replace(domain.create(rules.checked(ibm()), NOW), status=Status.EXPIRED)
    with pytest.raises(errors.FailedPrecondition) as caught:
        change(expired, NOW)
    assert caught.value.reason == reason
    with pytest.raises(errors.FailedPrecondition) as caught:
        domain.updated(expired, ibm(name="x"), ["name"], 0, NOW)
    assert caught.value.reason == "INSTRUMENT_EXPIRED"


def test_search_terms_are_bounded_and_without_case() -> None:
    terms = domain.search_terms(rules.checked(ibm(name=" ".join(["Straße"] * 28), symbol="Ib.M")))

    assert (0, "ib.m") in terms
    assert all(len(term) <= domain.TERM_LENGTH_MAX for _, term in terms)
    assert len(terms) <= 1 + 3 + domain.NAME_WORDS_MAX
    assert domain.search_key("  STRASSE   x ") == "strasse x"
