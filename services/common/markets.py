"""Markets that can be named, and the time zone that decides a trade's date."""

from collections.abc import Mapping
from functools import cache
from zoneinfo import ZoneInfo

TIME_ZONES: Mapping[str, str] = {
    "ARCX": "America/New_York",
    "BATS": "America/New_York",
    "EDGA": "America/New_York",
    "EDGX": "America/New_York",
    "FINY": "America/New_York",
    "IEXG": "America/New_York",
    "XASE": "America/New_York",
    "XBOS": "America/New_York",
    "XCHI": "America/Chicago",
    "XNAS": "America/New_York",
    "XNYS": "America/New_York",
    "XPHL": "America/New_York",
    "XAMS": "Europe/Amsterdam",
    "XBRU": "Europe/Brussels",
    "XDUB": "Europe/Dublin",
    "XETR": "Europe/Berlin",
    "XLIS": "Europe/Lisbon",
    "XLON": "Europe/London",
    "XMAD": "Europe/Madrid",
    "XMIL": "Europe/Rome",
    "XPAR": "Europe/Paris",
    "XSTO": "Europe/Stockholm",
    "XSWX": "Europe/Zurich",
    "XASX": "Australia/Sydney",
    "XHKG": "Asia/Hong_Kong",
    "XTKS": "Asia/Tokyo",
    "XTSE": "America/Toronto",
}
"""IANA time zone of each supported market, by its ISO 10383 code."""


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def zone(mic: str) -> ZoneInfo | None:
    """Return the time zone of a market; None for a market that is not supported."""
    name = TIME_ZONES.get(mic)
    return None if name is None else _zone(name)
