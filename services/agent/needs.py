"""What a conversation needs of its agent, and whether an agent has it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from interchange.conversation.v1 import conversation_pb2

DEFAULT_POOL = "default"
PRIORITY_MAX = 9


@dataclass(frozen=True, slots=True)
class Needs:
    """What a hand-over asks for; levels by skill."""

    pool_id: str
    required: Mapping[str, int]
    wished: Mapping[str, int]
    priority: int
    preferred_agent_id: str
    preferred_only: bool
    excluded_agent_ids: frozenset[str]

    @property
    def rank(self) -> int:
        """Place of the priority in the queue, 0 goes first."""
        return PRIORITY_MAX - self.priority

    def met_by(self, skills: Mapping[str, int]) -> bool:
        """Tell whether each required skill is there at its level."""
        return all(skills.get(name, 0) >= level for name, level in self.required.items())

    def admits(self, agent_id: str) -> bool:
        """Tell whether the agent may get it at all."""
        if agent_id in self.excluded_agent_ids:
            return False
        return not self.preferred_only or agent_id == self.preferred_agent_id


def read(message: conversation_pb2.Needs) -> Needs:
    """Return the needs of a message; who handed the conversation over has checked it."""
    return Needs(
        pool_id=message.pool_id or DEFAULT_POOL,
        required=levels(message.required_skills),
        wished=levels(message.wished_skills),
        priority=min(max(message.priority, 0), PRIORITY_MAX),
        preferred_agent_id=message.preferred_agent_id,
        # Nobody is preferred: then anybody will do.
        preferred_only=message.preferred_only and bool(message.preferred_agent_id),
        excluded_agent_ids=frozenset(message.excluded_agent_ids),
    )


def levels(skills: Iterable[conversation_pb2.Skill]) -> dict[str, int]:
    """Return levels by skill; the highest counts where a skill is named twice."""
    found: dict[str, int] = {}
    for skill in skills:
        found[skill.name] = max(found.get(skill.name, 0), skill.level or 1)
    return found
