"""native.money, in Python that can be read against its specification."""

import re
from collections.abc import Sequence

OK, NOT_A_NUMBER, TOO_MANY_DECIMALS, OUT_OF_RANGE = range(4)
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
TEXT_LENGTH_MAX = 64

DECIMAL = re.compile(r"([+-]?)([0-9]*)\.?([0-9]*)(?:[eE]([+-]?[0-9]+))?")


def half_even(numerator: int, divisor: int) -> int:
    """Round numerator / divisor (divisor > 0) to the nearest, ties to even."""
    quotient, rest = divmod(numerator, divisor)
    if 2 * rest > divisor or (2 * rest == divisor and quotient % 2 == 1):
        quotient += 1
    return quotient


def fits(value: int) -> bool:
    """Say whether value is an int64."""
    return INT64_MIN <= value <= INT64_MAX


def parse_decimals(texts: Sequence[str], scale: int) -> tuple[list[int], list[int]]:
    """Parse each text to (value, status) at 10**-scale."""
    values, status = [], []
    for text in texts:
        value, code = parse_decimal(text, scale)
        values.append(value)
        status.append(code)
    return values, status


def parse_decimal(text: str, scale: int) -> tuple[int, int]:
    """Parse one text to (value, status) at 10**-scale."""
    match = DECIMAL.fullmatch(text)
    if match is None or len(text) > TEXT_LENGTH_MAX:
        return 0, NOT_A_NUMBER
    sign, whole, fraction, exponent = match.groups()
    if not whole and not fraction:
        return 0, NOT_A_NUMBER
    digits = (whole + fraction).lstrip("0")
    significant = digits.rstrip("0")
    if not significant:
        return 0, OK
    power = len(digits) - len(significant) - len(fraction) + int(exponent or 0) + scale
    if power < 0:
        return 0, TOO_MANY_DECIMALS
    if len(significant) + power > 19:
        return 0, OUT_OF_RANGE
    value = int(sign + significant) * 10**power
    return (value, OK) if fits(value) else (0, OUT_OF_RANGE)


def format_decimals(values: Sequence[int], scale: int) -> list[str]:
    """Format each value of 10**-scale in canonical minimal form."""
    texts = []
    for value in values:
        digits = str(abs(value)).rjust(scale + 1, "0")
        split = len(digits) - scale
        fraction = digits[split:].rstrip("0")
        text = digits[:split] + ("." + fraction if fraction else "")
        texts.append("-" + text if value < 0 else text)
    return texts


def notional(
    quantity: Sequence[int], price: Sequence[int], exponent: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Multiply to (amount in minor units, status), rounded half-even."""
    amounts, status = [], []
    for q, p, e in zip(quantity, price, exponent, strict=True):
        amount = half_even(q * p, 10 ** (6 + 8 - e))
        amounts.append(amount if fits(amount) else 0)
        status.append(OK if fits(amount) else OUT_OF_RANGE)
    return amounts, status


def money_to_minor(
    units: Sequence[int], nanos: Sequence[int], exponent: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Convert google.type.Money to (amount in minor units, status)."""
    amounts, status = [], []
    for unit, nano, e in zip(units, nanos, exponent, strict=True):
        amount, code = 0, OK
        total = unit * 10**9 + nano
        if abs(nano) >= 10**9 or unit * nano < 0:
            code = NOT_A_NUMBER
        elif total % 10 ** (9 - e):
            code = TOO_MANY_DECIMALS
        elif not fits(total // 10 ** (9 - e)):
            code = OUT_OF_RANGE
        else:
            amount = total // 10 ** (9 - e)
        amounts.append(amount)
        status.append(code)
    return amounts, status


def minor_to_money(amount: Sequence[int], exponent: Sequence[int]) -> tuple[list[int], list[int]]:
    """Convert minor units to google.type.Money's (units, nanos)."""
    units, nanos = [], []
    for value, e in zip(amount, exponent, strict=True):
        sign = -1 if value < 0 else 1
        whole, part = divmod(abs(value), 10**e)
        units.append(sign * whole)
        nanos.append(sign * part * 10 ** (9 - e))
    return units, nanos


def is_multiple(values: Sequence[int], step: Sequence[int]) -> list[int]:
    """Flag the values that a positive step divides."""
    return [int(s > 0 and v % s == 0) for v, s in zip(values, step, strict=True)]
