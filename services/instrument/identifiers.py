"""Identifiers of securities: form and check digit.

ISO 6166 (ISIN), ANSI X9.6 (CUSIP), ANSI X9.145 (FIGI). Only the written form
counts: no separators, upper case.
"""

import re
from functools import lru_cache

from stdnum import cusip, figi, isin

CHECKED_MAX = 65_536
"""Results remembered; a check takes some 15 µs."""
CUSIP_COUNTRIES = ("US", "CA")
"""Countries whose ISINs contain the CUSIP."""

_ISIN = re.compile(r"[A-Z]{2}[A-Z0-9]{9}[0-9]")
_CUSIP = re.compile(r"[A-Z0-9*@#]{8}[0-9]")
_FIGI = re.compile(r"[A-Z]{2}G[A-Z0-9]{8}[0-9]")


@lru_cache(CHECKED_MAX)
def is_isin(text: str) -> bool:
    """Tell whether it is an ISIN with the right check digit."""
    return _ISIN.fullmatch(text) is not None and isin.is_valid(text)


@lru_cache(CHECKED_MAX)
def is_cusip(text: str) -> bool:
    """Tell whether it is a CUSIP with the right check digit."""
    return _CUSIP.fullmatch(text) is not None and cusip.is_valid(text)


@lru_cache(CHECKED_MAX)
def is_figi(text: str) -> bool:
    """Tell whether it is a FIGI with the right check digit."""
    return _FIGI.fullmatch(text) is not None and figi.is_valid(text)


def agree(isin_text: str, cusip_text: str) -> bool:
    """Tell whether two valid identifiers can name one security."""
    return isin_text[:2] not in CUSIP_COUNTRIES or isin_text[2:11] == cusip_text
