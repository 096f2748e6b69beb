"""What an instrument is and what may happen to it.

Rules of fields are in rules.py; here are the states and their changes. Each
change gives the next version; what changes nothing gives the same object.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from services.common.errors import Aborted, FailedPrecondition, InvalidArgument, Violation
from services.instrument import rules
from services.instrument.rules import Details, Terms

UPDATABLE = frozenset(
    {"symbol", "name", "isin", "cusip", "figi", "lot_size", "tick_size", "calendar"}
)
"""Paths that an update mask may hold."""
NAME_WORDS_MAX = 16
TERM_LENGTH_MAX = 64
"""Characters of a search term: those of the longest query."""


class Status(StrEnum):
    """States of an instrument."""

    ACTIVE = "ACTIVE"
    HALTED = "HALTED"
    EXPIRED = "EXPIRED"


@dataclass(frozen=True, slots=True)
class Instrument:
    """An instrument in one of its versions."""

    terms: Terms
    status: Status
    version: int
    create_time: datetime
    update_time: datetime


def create(terms: Terms, now: datetime) -> Instrument:
    """Return a new instrument: active, version 1."""
    return Instrument(terms, Status.ACTIVE, 1, now, now)


def check_mask(paths: list[str]) -> None:
    """Raise InvalidArgument unless an update may change these paths, at least one."""
    wrong = [path for path in paths if path not in UPDATABLE]
    if wrong or not paths:
        expected = f"expected some of {', '.join(sorted(UPDATABLE))}"
        texts = [f"{path!r} can't be updated, {expected}" for path in wrong] or [expected]
        violations = [Violation("update_mask", text, "INVALID_UPDATE_MASK") for text in texts]
        raise InvalidArgument(
            "INVALID_UPDATE_MASK", f"update_mask: {texts[0]}", violations=violations
        )


def updated(
    instrument: Instrument,
    details: Details,
    paths: list[str],
    expected_version: int,
    now: datetime,
) -> Instrument:
    """Return the instrument with the fields in `paths` taken from `details`.

    Raises Aborted when it is no longer the expected version (0 expects none),
    FailedPrecondition when it has expired, InvalidArgument when the outcome
    breaks a rule.
    """
    if expected_version not in (0, instrument.version):
        raise Aborted(
            "VERSION_MISMATCH",
            f"the version is {instrument.version}, expected {expected_version}; read it again",
            metadata={"version": str(instrument.version)},
        )
    if instrument.status is Status.EXPIRED:
        raise _refused("INSTRUMENT_EXPIRED", instrument)
    changes = {path: getattr(details, path) for path in paths}
    merged = replace(rules.details_of(instrument.terms), **changes)
    terms = rules.checked(merged, only=frozenset(paths))
    if terms == instrument.terms:
        return instrument
    return replace(instrument, terms=terms, version=instrument.version + 1, update_time=now)


def halted(instrument: Instrument, now: datetime) -> Instrument:
    """Return the instrument suspended; raises FailedPrecondition when it has expired."""
    return _moved(instrument, Status.HALTED, "INSTRUMENT_NOT_ACTIVE", now)


def resumed(instrument: Instrument, now: datetime) -> Instrument:
    """Return the instrument active; raises FailedPrecondition when it has expired."""
    return _moved(instrument, Status.ACTIVE, "INSTRUMENT_NOT_HALTED", now)


def search_terms(terms: Terms) -> list[tuple[int, str]]:
    """Return (rank, term) of all by which the instrument is found.

    A name is found from each of its words on, so `bank of` and `america` both
    find Bank of America.
    """
    words = terms.name.split()
    names = [" ".join(words[first:]) for first in range(min(len(words), NAME_WORDS_MAX))]
    identifiers = [text for text in (terms.isin, terms.cusip, terms.figi) if text]
    ranked = [(0, [terms.symbol]), (1, identifiers), (2, names)]
    return sorted({(rank, search_key(text)) for rank, texts in ranked for text in texts})


def search_key(text: str) -> str:
    """Return text as terms and queries are compared: without case, bounded."""
    return " ".join(text.casefold().split())[:TERM_LENGTH_MAX]


def _moved(instrument: Instrument, to: Status, reason: str, now: datetime) -> Instrument:
    if instrument.status is Status.EXPIRED:
        raise _refused(reason, instrument)
    if instrument.status is to:
        return instrument
    return replace(instrument, status=to, version=instrument.version + 1, update_time=now)


def _refused(reason: str, instrument: Instrument) -> FailedPrecondition:
    return FailedPrecondition(
        reason,
        f"instrument {instrument.terms.instrument_id} is {instrument.status.lower()}",
        metadata={"instrument_id": instrument.terms.instrument_id},
    )
