"""What a client may bring: so much at once, so often, and frames for the most part."""

from services.gateway.allowance import Allowance

GARBAGE_MAX = 20
"""Frames in a row that are none, after which a socket is closed."""
EXCESS_MAX = 50
"""Frames beyond the allowance that are refused before a socket is closed."""


class FragmentsMixed(Exception):
    """Parts of two messages at once, or a part of none (RFC 6455, section 5.4)."""


class Intake:
    """The limits of one socket."""

    __slots__ = ("_allowance", "_excess", "_garbage", "_parts", "_size_max")

    def __init__(self, size_max: int, per_second: int, burst: int) -> None:
        self._size_max = size_max
        self._allowance = Allowance(per_second, burst)
        self._excess = 0
        self._garbage = 0
        self._parts: bytearray | None = None

    @property
    def whole(self) -> bool:
        """True while no message is in parts."""
        return self._parts is None

    @property
    def excessive(self) -> bool:
        """True when a client went on though it was told of too many frames."""
        return self._excess >= EXCESS_MAX

    @property
    def useless(self) -> bool:
        """True when nothing but garbage comes."""
        return self._garbage >= GARBAGE_MAX

    def admit(self, now: float) -> bool:
        """Count a frame; False when there are too many."""
        if not self._allowance.take(now):
            self._excess += 1
            return False
        if self._excess and self._allowance.full(now):
            self._excess = 0
        return True

    def note(self, *, garbage: bool) -> None:
        """Note whether a frame was one."""
        self._garbage = self._garbage + 1 if garbage else 0

    def assemble(self, part: bytes, *, first: bool, last: bool) -> tuple[bytes, int] | None:
        """Take a part of a message; return the message and its size once it is whole.

        One that grew too large comes at once, without what was too much. Raises
        FragmentsMixed.
        """
        if first is (self._parts is not None):
            raise FragmentsMixed
        parts = self._parts = self._parts or bytearray()
        size = len(parts) + len(part)
        fits = size <= self._size_max
        if fits:
            parts += part
        if last or not fits:
            self._parts = None
            return bytes(parts), size
        return None
