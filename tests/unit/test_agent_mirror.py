"""Who is proposed for a conversation, and what mirrors know."""

from dataclasses import replace
from datetime import timedelta

from services.agent.domain import Agent, Request, Status
from services.agent.mirror import Mirror
from services.agent.proposals import propose
from tests.unit.agent_fakes import MAIL, NOW, WEB, agent, request

PAUSE = timedelta(seconds=30)


def mirror(*agents: Agent) -> Mirror:
    found = Mirror("default")
    found.apply(agents)
    return found


def proposed(found: Mirror, *requests: Request) -> dict[str, list[str]]:
    return {
        one.request.conversation_id: [each.agent.agent_id for each in one.candidates]
        for one in propose(found, requests, NOW, PAUSE, 8)
    }


def test_skills_filter_then_load_then_response_time() -> None:
    english = {"lang:en": 5}
    found = mirror(
        agent("a", skills=english, slots={WEB: 4}, loads={WEB: 1}),
        agent("b", skills=english, slots={WEB: 4}, response_ms=90_000),
        agent("c", skills=english, slots={WEB: 4}, response_ms=10_000),
        agent("d", skills={"lang:en": 4}, slots={WEB: 4}),
        agent("e", skills=english, status=Status.AWAY),
        agent("f", skills=english, slots={MAIL: 4}),
    )

    assert proposed(found, request(required=english)) == {"c1": ["c", "b", "a"]}


def test_one_of_fifty_slots_counts_more_than_any_response_time() -> None:
    found = mirror(
        agent("a", slots={WEB: 50}, loads={WEB: 1}, response_ms=1),
        agent("b", slots={WEB: 50}, response_ms=86_400_000),
    )

    assert proposed(found, request()) == {"c1": ["b", "a"]}


def test_preferred_goes_before_last_before_free() -> None:
    found = mirror(
        agent("a", slots={WEB: 4}),
        agent("b", slots={WEB: 4}, loads={WEB: 3}),
        agent("c", slots={WEB: 4}, loads={WEB: 3}),
    )

    asked = request(preferred="c", previous="b")
    assert proposed(found, asked) == {"c1": ["c", "b", "a"]}
    assert proposed(found, request(preferred="c", preferred_only=True)) == {"c1": ["c"]}
    assert proposed(found, request(preferred="x", preferred_only=True)) == {}
    assert proposed(found, request(excluded=["a", "c"])) == {"c1": ["b"]}


def test_requests_of_a_pass_spread_over_agents() -> None:
    found = mirror(agent("a", slots={WEB: 2}), agent("b", slots={WEB: 2}))

    firsts = [names[0] for names in proposed(found, *map(request, "12345")).values()]

    assert sorted(firsts) == ["a", "a", "b", "b"]


def test_who_declined_is_passed_over_until_his_pause_is_over() -> None:
    found = mirror(agent("a"), agent("b", slots={WEB: 5}))

    assert proposed(found, request(declined={"b": NOW - 2 * PAUSE})) == {"c1": ["a"]}
    both = {"a": NOW - PAUSE, "b": NOW - PAUSE / 2}
    assert proposed(found, request(declined=both)) == {"c1": ["a"]}
    assert proposed(found, request(declined=dict.fromkeys("ab", NOW))) == {}


def test_hopeless_requests_do_not_hide_others_of_their_kind() -> None:
    """One that nobody fits for a reason of its own says nothing of the next."""
    found = mirror(agent("a"))

    assert proposed(found, request("c1", excluded=["a"]), request("c2")) == {"c2": ["a"]}


def test_skill_that_nobody_has_is_required_in_vain_and_wished_without_harm() -> None:
    found = mirror(agent("a"))

    assert proposed(found, request(required={"x": 1, "y": 2})) == {}
    assert proposed(found, request(wished={"x": 1, "y": 2})) == {"c1": ["a"]}


def test_mirror_takes_what_is_newer_and_drops_who_left_the_pool() -> None:
    found = mirror(agent("a"), agent("b"))
    newer = replace(agent("a", loads={WEB: 1}), version=3)

    found.apply([newer, replace(agent("a"), version=2)])
    assert proposed(found, request()) == {"c1": ["b"]}
    found.apply([replace(agent("b", pool="mail"), version=2)])
    assert found.versions() == {"a": 3}
    assert not found.anybody_free()


def test_mirror_follows_new_skills() -> None:
    found = mirror(agent("a", skills={"x": 1}))
    assert proposed(found, request(required={"y": 2})) == {}

    found.apply([replace(agent("a", skills={"y": 2}), version=2)])

    assert proposed(found, request(required={"y": 2})) == {"c1": ["a"]}
