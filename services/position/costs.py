"""What a unit cost: exact, over integers of any size."""

from native.money import PRICE_SCALE, QUANTITY_SCALE


def average_cost_e8(open_cost: int, quantity: int, exponent: int) -> int:
    """Return the open cost of one unit in 1e-8 of the currency, half to even; 0 when flat.

    `open_cost` is minor units of a currency of that exponent, `quantity` 1e-6 units.
    """
    if quantity == 0:
        return 0
    scaled: int = open_cost * 10 ** (PRICE_SCALE + QUANTITY_SCALE - exponent)
    whole, rest = divmod(abs(scaled), abs(quantity))
    if 2 * rest > abs(quantity) or (2 * rest == abs(quantity) and whole % 2):
        whole += 1
    return whole if (scaled < 0) == (quantity < 0) else -whole


def decimal_text(value: int, decimals: int) -> str:
    """Return a scaled integer of any size as a decimal in its shortest form."""
    whole, part = divmod(abs(value), 10**decimals)
    digits = f"{part:0{decimals}d}".rstrip("0")
    return f"{'-' if value < 0 else ''}{whole}{'.' if digits else ''}{digits}"
