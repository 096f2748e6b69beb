"""Currencies of ISO 4217 and the exponents of their minor units."""

from iso4217 import Currency

_EXPONENTS = {str(one.code): one.exponent for one in Currency if one.exponent is not None}


def exponent(code: str) -> int | None:
    """Return the decimals of a currency's minor unit; None for what is no currency.

    Metals, test codes and accounting units (XAU, XTS, XDR) have no minor unit
    and count as no currency.
    """
    return _EXPONENTS.get(code)
