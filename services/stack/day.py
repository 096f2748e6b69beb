"""A simulated day of trading: the same seed makes the same day.

Prices walk at random by cents, an instrument each; sizes are mostly round lots
and sometimes odd ones; some accounts sell what they don't have, so positions
are long and short and cross zero. Nothing here is a market's.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

import numpy as np
from interchange.instrument.v1.instrument_pb2 import Instrument
from numpy.typing import NDArray

OPEN = time(14, 30, tzinfo=UTC)
SESSION_MS = int(timedelta(hours=6.5).total_seconds()) * 1_000
CENTS_MIN, CENTS_MAX = 1_000, 20_000
"""Range of the first prices."""
LOT = 100
LOTS_MAX = 50
ODD_SHARE = 0.15
FEE_SHARE = 0.4
"""Share of the trades that bear a fee."""
FEE_CENTS_MIN = 35
SHARES_A_CENT = 2
"""A fee is a cent for so many shares, above its minimum."""
HOUSE_SHARE = 0.05
"""Share of the trades that the house, the first account, makes itself."""

Int64s = NDArray[np.int64]


class Trade(NamedTuple):
    """One trade of the day; numbers are text, as a caller sends them."""

    account: str
    instrument: str
    side: int
    quantity: str
    price: str
    currency: str
    time_us: int
    venue: str
    fees: str


def trading_day(
    instruments: Sequence[Instrument], accounts: Sequence[str], count: int, seed: int, day: date
) -> Iterator[Trade]:
    """Yield `count` trades of one day, in the order of their times."""
    chance = np.random.default_rng(seed)
    which = chance.integers(len(instruments), size=count)
    who = chance.integers(1, len(accounts), size=count)
    who[chance.random(count) < HOUSE_SHARE] = 0
    quantity = LOT * np.minimum(chance.geometric(0.3, count), LOTS_MAX)
    odd = chance.random(count) < ODD_SHARE
    quantity[odd] = chance.integers(1, LOT, size=int(odd.sum()))
    cents = _walk(which, len(instruments), chance)
    fees = np.maximum(FEE_CENTS_MIN, quantity // SHARES_A_CENT)
    fees[chance.random(count) >= FEE_SHARE] = 0
    # Each account leans to one side, so that positions grow and some are short.
    lean = chance.uniform(0.35, 0.65, len(accounts))
    sides = np.where(chance.random(count) < lean[who], 1, 2)
    times = np.sort(chance.integers(SESSION_MS, size=count)) * 1_000 + _open_us(day)
    columns = (who, which, sides, quantity, cents, fees, times)
    for at, of, side, units, price, fee, moment in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        instrument = instruments[of]
        yield Trade(
            accounts[at],
            instrument.instrument_id,
            side,
            str(units),
            _money(price),
            instrument.currency,
            moment,
            instrument.mic,
            _money(fee) if fee else "",
        )


def last_weekday(today: date) -> date:
    """Return the weekday before a day: a session that is over whatever the time is."""
    day = today - timedelta(days=1)
    while day.weekday() > 4:
        day -= timedelta(days=1)
    return day


def _walk(which: Int64s, instruments: int, chance: np.random.Generator) -> Int64s:
    """Return the price of each trade in cents: a walk by -2 to 2 cents an instrument."""
    steps = chance.integers(-2, 3, size=len(which))
    cents = np.empty(len(which), np.int64)
    for instrument in range(instruments):
        mine = which == instrument
        first = chance.integers(CENTS_MIN, CENTS_MAX)
        # Reflected at a dollar: a price is never zero.
        cents[mine] = np.abs(first + np.cumsum(steps[mine]) - 100) + 100
    return cents


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _open_us(day: date) -> int:
    return int(datetime.combine(day, OPEN).timestamp()) * 1_000_000
