"""The laws of talk that are about agents: what they carry, and who waits for them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import TypeAlias

from interchange.agent.v1.agent_events_pb2 import AgentMatched
from interchange.conversation.v1.conversation_pb2 import Needs

from tests.sim.talk.folds import QUEUED, WITH_AGENT, events
from tests.sim.talk.seen import Agent, Seen, Slots
from tests.sim.talk.told import Told

Law: TypeAlias = Callable[[Told, Seen], Iterator[str]]

DEFAULT_POOL = "default"


def overloads(slots: list[Slots]) -> Iterator[str]:
    """Yield agents whose load is not what they have, or more than they take: at no moment."""
    for one in slots:
        if one.load != one.offers + one.assignments or one.load > one.slots:
            yield str(one)


def loads_are_what_agents_have(told: Told, seen: Seen) -> Iterator[str]:
    """A load is open offers and conversations, and never above the slots."""
    yield from overloads(seen.slots)


def agents_have_what_is_theirs(told: Told, seen: Seen) -> Iterator[str]:
    """Who answers a conversation is one, and the same in both services."""
    expected = Counter(
        (one.conversation, one.hand_off, one.agent)
        for one in seen.conversations
        if one.status == WITH_AGENT
    )
    found = Counter(map(tuple, seen.assignments))
    yield from (f"nobody has {one}" for one in (expected - found).elements())
    yield from (f"{one} moved on" for one in (found - expected).elements())


def requests_are_the_last_hand_overs(told: Told, seen: Seen) -> Iterator[str]:
    """What waits in one service waits in the other, with the same number."""
    expected = {
        one.conversation: one.hand_off for one in seen.conversations if one.status == QUEUED
    }
    found = {
        one.conversation: one.hand_off
        for one in seen.requests
        if one.state in ("WAITING", "OFFERED")
    }
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            yield f"{name} waits with {expected.get(name)}, in front of agents {found.get(name)}"


def nobody_waits_while_a_fit_agent_is_free(told: Told, seen: Seen) -> Iterator[str]:
    """A conversation waits only where all who fit are gone or full."""
    agents = {one.agent: one for one in seen.agents}
    free = {(one.agent, one.channel) for one in seen.slots if one.load < one.slots}
    for one in seen.requests:
        if one.state != "WAITING":
            continue
        for name, agent in agents.items():
            if agent.status == "ONLINE" and (name, one.channel) in free and fits(one.needs, agent):
                yield f"{one.conversation} waits, and {name} is free"


def each_hand_over_has_one_match(told: Told, seen: Seen) -> Iterator[str]:
    """Two agents never get the same."""
    matches: dict[tuple[str, int], list[str]] = defaultdict(list)
    for event in events(seen, AgentMatched):
        matches[event.conversation_id, event.hand_off].append(event.agent_id)
    for key, names in matches.items():
        if len(names) > 1:
            yield f"{key} was given to {names}"


def accepted_offers_are_matched(told: Told, seen: Seen) -> Iterator[str]:
    """Who was told that he has it got it, once; who declined it did not."""
    matches = Counter((event.agent_id, event.offer_id) for event in events(seen, AgentMatched))
    yield from (f"{one} has {matches[one]} matches" for one in told.accepted if matches[one] != 1)
    yield from (f"{one} was declined, and matched" for one in told.declined if matches[one])


def fits(needs: Needs, agent: Agent) -> bool:
    """Tell whether an agent has what is needed."""
    skilled = all(agent.skills.get(one.name, 0) >= one.level for one in needs.required_skills)
    wanted = not needs.preferred_only or agent.agent == needs.preferred_agent_id
    return (
        agent.pool == (needs.pool_id or DEFAULT_POOL)
        and skilled
        and wanted
        and agent.agent not in needs.excluded_agent_ids
    )


LAWS: tuple[Law, ...] = (
    loads_are_what_agents_have,
    agents_have_what_is_theirs,
    requests_are_the_last_hand_overs,
    nobody_waits_while_a_fit_agent_is_free,
    each_hand_over_has_one_match,
    accepted_offers_are_matched,
)
