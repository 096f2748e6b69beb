"""What came of a run, and how to see it again."""

from dataclasses import dataclass

from tests.sim.chance import Chance


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a run."""

    seed: int
    breaches: list[str]
    digest: str
    count: int
    """Commands that were acknowledged."""
    last_words: str

    @classmethod
    def of(cls, chance: Chance, breaches: list[str], count: int) -> "Report":
        """Close a run."""
        for breach in breaches:
            chance.note(breach)
        return cls(chance.seed, breaches, chance.digest(), count, chance.last_words())

    def check(self, command: str) -> None:
        """Raise what was breached, with what replays it."""
        if self.breaches:
            breaches = "\n".join(self.breaches)
            raise AssertionError(
                f"seed {self.seed}: replay it by `{command} --seed {self.seed}`\n"
                f"{breaches}\n\nlast decisions:\n{self.last_words}"
            )
