"""How rough a run of the conversation side is, beyond the weather that all runs know."""

from dataclasses import dataclass, fields

from tests.sim.chance import Chance


@dataclass(frozen=True, slots=True)
class Sky:
    """Probabilities. Faults that hide each other are absent in some of the runs."""

    push_lost: float = 0.40
    """A push never comes."""
    push_late: float = 0.40
    """A push comes later, and others overtake it."""
    push_doubled: float = 0.20
    """A push comes twice."""
    overtaken: float = 0.50
    """A late push comes while history is read."""
    socket_breaks: float = 0.10
    """A client loses its socket, and what was not sent with it."""
    nlu_fails: float = 0.30
    """The NLU does not answer, to one or to all."""
    nlu_is_slow: float = 0.40
    """The world goes on while the NLU thinks."""
    redis_is_down: float = 0.20
    """Redis does not answer."""
    redis_forgets: float = 0.10
    """Redis comes back empty."""
    redis_lies: float = 0.30
    """Redis holds a slot that is taken, or says that none is free."""
    meanwhile: float = 0.40
    """The world goes on between a reservation and its decision."""

    @classmethod
    def of(cls, chance: Chance) -> "Sky":
        """Draw the sky of a run."""
        return cls(*(chance.share(field.default) for field in fields(cls)))


CLEAR = Sky(*(0.0 for _ in fields(Sky)))
"""Nothing goes wrong any more."""
