"""Rules of what is set of an agent: from what a caller gave to what is stored."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from interchange.conversation.v1 import conversation_pb2

from services.agent.domain import Profile
from services.agent.needs import DEFAULT_POOL
from services.common.errors import InvalidArgument, Violation

NAME_LENGTH_MAX = 100
SKILLS_MAX = 32
LEVEL_MAX = 10
SLOTS_MAX = 50
CHANNELS = tuple(number for number in conversation_pb2.Channel.values() if number != 0)

_AGENT_ID = re.compile(r"[!-~]{1,64}")
"""As the subject of a token."""
_POOL_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_SKILL = re.compile(r"[a-z0-9:-]{1,32}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Details:
    """What a caller set of an agent: nothing is checked."""

    agent_id: str
    display_name: str
    pool_id: str
    skills: Sequence[tuple[str, int]]
    """Name and level."""
    capacities: Sequence[tuple[int, int]]
    """Channel and conversations at once."""
    output_only: tuple[str, ...] = ()
    """Fields of the server that were set all the same."""


def checked(details: Details) -> Profile:
    """Return what is stored of an agent; raises InvalidArgument with every wrong field."""
    violations = list(_violations(details))
    if violations:
        first = violations[0]
        text = f"{first.field}: {first.description}"
        raise InvalidArgument(first.reason, text, violations=violations)
    return Profile(
        agent_id=details.agent_id,
        display_name=details.display_name or details.agent_id,
        pool_id=details.pool_id or DEFAULT_POOL,
        skills={name: level or 1 for name, level in details.skills},
        slots=dict(details.capacities),
    )


def is_agent_id(text: str) -> bool:
    """Tell whether it can be the id of an agent."""
    return _AGENT_ID.fullmatch(text) is not None


def is_pool_id(text: str) -> bool:
    """Tell whether it can be the id of a pool."""
    return _POOL_ID.fullmatch(text) is not None


def skill_violations(
    field: str, skills: Sequence[tuple[str, int]], most: int
) -> Iterator[Violation]:
    """Yield what is wrong with skills, in a field that holds at most so many."""
    if len(skills) > most:
        text = f"were {len(skills)}, expected at most {most}"
        yield Violation(field, text, "TOO_MANY_SKILLS")
        return
    names = [name for name, _ in skills]
    for index, (name, level) in enumerate(skills):
        place = f"{field}[{index}]"
        if _SKILL.fullmatch(name) is None:
            yield Violation(f"{place}.name", f"expected {_SKILL.pattern}", "INVALID_SKILL")
        elif name in names[:index]:
            yield Violation(f"{place}.name", "is there already", "DUPLICATE_SKILL")
        if not 0 <= level <= LEVEL_MAX:
            text = f"was {level}, expected 0 to {LEVEL_MAX}"
            yield Violation(f"{place}.level", text, "INVALID_LEVEL")


def _violations(details: Details) -> Iterator[Violation]:
    for name in details.output_only:
        yield Violation(f"agent.{name}", "is set by the server", "OUTPUT_ONLY_FIELD")
    if not is_agent_id(details.agent_id):
        yield Violation("agent.agent_id", f"expected {_AGENT_ID.pattern}", "INVALID_AGENT_ID")
    if len(details.display_name) > NAME_LENGTH_MAX or _CONTROL.search(details.display_name):
        text = f"expected at most {NAME_LENGTH_MAX} characters, none of them control characters"
        yield Violation("agent.display_name", text, "INVALID_DISPLAY_NAME")
    if details.pool_id and not is_pool_id(details.pool_id):
        yield Violation("agent.pool_id", f"expected {_POOL_ID.pattern}", "INVALID_POOL_ID")
    yield from skill_violations("agent.skills", details.skills, SKILLS_MAX)
    yield from _capacity_violations(details.capacities)


def _capacity_violations(capacities: Sequence[tuple[int, int]]) -> Iterator[Violation]:
    # Channels are few: more than all of them repeat one.
    if len(capacities) > len(CHANNELS):
        text = f"were {len(capacities)}, expected at most one a channel"
        yield Violation("agent.capacities", text, "TOO_MANY_CAPACITIES")
        return
    channels = [channel for channel, _ in capacities]
    for index, (channel, slots) in enumerate(capacities):
        place = f"agent.capacities[{index}]"
        if channel not in CHANNELS:
            yield Violation(f"{place}.channel", f"{channel} is not a channel", "INVALID_CHANNEL")
        elif channel in channels[:index]:
            yield Violation(f"{place}.channel", "is there already", "DUPLICATE_CHANNEL")
        if not 0 <= slots <= SLOTS_MAX:
            text = f"was {slots}, expected 0 to {SLOTS_MAX}"
            yield Violation(f"{place}.limit", text, "INVALID_LIMIT")
