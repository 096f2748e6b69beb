"""Proposals against the plain rule: who fits is who Request.fits says."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.agent.domain import Agent, Request, Status
from services.agent.mirror import Mirror
from services.agent.proposals import propose
from tests.unit.agent_fakes import MAIL, NOW, WEB, agent, request

PAUSE = timedelta(seconds=30)
NAMES = [f"a{number}" for number in range(6)]
LEVELS = st.dictionaries(st.sampled_from(["x", "y", "z"]), st.integers(1, 3), max_size=3)
COUNTS = st.dictionaries(st.sampled_from([WEB, MAIL]), st.integers(0, 3), max_size=2)


@st.composite
def agents(draw: st.DrawFn) -> list[Agent]:
    return [
        agent(
            name,
            skills=draw(LEVELS),
            slots=draw(COUNTS),
            loads=draw(COUNTS),
            status=draw(st.sampled_from(list(Status))),
            response_ms=draw(st.integers(0, 100_000)),
        )
        for name in draw(st.sets(st.sampled_from(NAMES)))
    ]


@st.composite
def requests(draw: st.DrawFn) -> Request:
    declined = draw(st.dictionaries(st.sampled_from(NAMES), st.integers(0, 60), max_size=3))
    return request(
        required=draw(LEVELS),
        wished=draw(LEVELS),
        channel=draw(st.sampled_from([WEB, MAIL])),
        preferred=draw(st.sampled_from([*NAMES[:2], ""])),
        # As read from an event: only somebody can be the only one.
        preferred_only=False,
        excluded=draw(st.sets(st.sampled_from(NAMES), max_size=2)),
        previous=draw(st.sampled_from([*NAMES[:2], ""])),
        declined={name: NOW - timedelta(seconds=age) for name, age in declined.items()},
    )


@given(agents(), requests())
def test_exactly_those_who_fit_are_proposed(crowd: list[Agent], asked: Request) -> None:
    mirror = Mirror("default")
    mirror.apply(crowd)

    found = propose(mirror, [asked], NOW, PAUSE, 8)

    fit = {one.agent_id for one in crowd if asked.fits(one, NOW, PAUSE)}
    fresh = fit - asked.declined.keys()
    proposed = {one.agent.agent_id for each in found for one in each.candidates}
    assert proposed == (fresh or fit)


@given(agents(), st.lists(requests(), max_size=12))
def test_a_pass_hands_out_no_more_than_there_is_and_leaves_nobody_who_fits(
    crowd: list[Agent], asked: list[Request]
) -> None:
    mirror = Mirror("default")
    mirror.apply(crowd)
    for number, one in enumerate(asked):
        one.conversation_id = f"c{number}"

    found = propose(mirror, asked, NOW, PAUSE, 8)

    taken: dict[tuple[str, int], int] = {}
    given = set()
    for proposal in found:
        first = proposal.candidates[0].agent
        key = (first.agent_id, proposal.request.channel)
        taken[key] = taken.get(key, 0) + 1
        given.add(proposal.request.conversation_id)
    by_name = {one.agent_id: one for one in crowd}
    for (name, channel), count in taken.items():
        one = by_name[name]
        assert one.load(channel) + count <= one.profile.slots[channel]
    for one in asked:
        if one.conversation_id in given:
            continue
        for each in crowd:
            if one.fits(each, NOW, PAUSE):
                used = taken.get((each.agent_id, one.channel), 0)
                assert each.load(one.channel) + used >= each.profile.slots[one.channel]
