"""Which instrument a symbol means: never guessed."""

from collections.abc import Iterable
from typing import NamedTuple

from interchange.instrument.v1.instrument_pb2 import Instrument


class Meaning(NamedTuple):
    """The instrument of a symbol, or the reason why there is none."""

    instrument_id: str
    reason: str = ""
    description: str = ""


class Symbols:
    """Finds instruments by symbol, and by currency where several share it."""

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self._known: dict[str, list[Instrument]] = {}
        for instrument in instruments:
            self._known.setdefault(instrument.symbol, []).append(instrument)
        self._found: dict[tuple[str, str], Meaning] = {}

    def instrument(self, symbol: str, currency: str) -> Meaning:
        """Return what a symbol means to a trade in a currency."""
        found = self._found.get((symbol, currency))
        if found is None:
            found = self._found[symbol, currency] = self._find(symbol, currency)
        return found

    def _find(self, symbol: str, currency: str) -> Meaning:
        candidates = self._known.get(symbol, [])
        if not candidates:
            return Meaning("", "INSTRUMENT_NOT_FOUND", "no instrument has this symbol")
        if len(candidates) > 1:
            candidates = [one for one in candidates if one.currency == currency]
        if len(candidates) != 1:
            return Meaning("", "INSTRUMENT_AMBIGUOUS", "several instruments have this symbol")
        return Meaning(candidates[0].instrument_id)
