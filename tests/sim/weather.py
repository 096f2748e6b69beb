"""How rough a run is: each seed has its own mixture of faults, some of them absent."""

from dataclasses import dataclass, fields

from tests.sim.chance import Chance


@dataclass(frozen=True, slots=True)
class Weather:
    """Probabilities. Faults that hide each other are absent in some of the runs."""

    client_dies: float = 0.20
    """A command's transaction is rolled back, or its answer is lost."""
    follower_dies: float = 0.15
    """A batch is rolled back before its commit, or committed and not heard of."""
    stumbles: float = 0.15
    """A handler raises once: before or after its work, for its own or another's fault."""
    relay_dies: float = 0.25
    """What was published is published again."""
    delayed: float = 0.12
    """An event comes later than the next ones of its key."""
    lost: float = 0.08
    """An event never comes: the event store has it."""
    repeated: float = 0.12
    """An event comes twice, at once or later."""
    swapped: float = 0.12
    """Two neighbours change places, of one key or of two."""
    mangled: float = 0.02
    """An event can't be applied as it came; an operator skips it."""
    refused: float = 0.02
    """A fault of the code refuses an event, until it is corrected and the key released."""
    strangers: float = 0.03
    """A message that is no event."""
    zombies: float = 0.08
    """An instance that lost its partitions applies a batch all the same."""
    rewinds: float = 0.02
    """Kafka is rebuilt: everything comes again from the beginning."""

    @classmethod
    def of(cls, chance: Chance) -> "Weather":
        """Draw the weather of a run."""
        return cls(*(chance.share(field.default) for field in fields(cls)))


CALM = Weather(*(0.0 for _ in fields(Weather)))
"""Nothing goes wrong any more."""
