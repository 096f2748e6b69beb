"""Reads for supervisors: who waits, and how agents fit."""

from interchange.agent.v1 import agent_pb2
from interchange.conversation.v1 import conversation_pb2

from services.agent import messages, needs, profile
from services.agent.domain import Request, RequestState
from services.agent.floor import Tools
from services.agent.mirrors import Mirrors
from services.agent.scorer import PARTS, WEIGHTS, Explained
from services.common.errors import InvalidArgument, Violation

LIST_DEFAULT = 100
EXPLAIN_DEFAULT = 10
SKILLS_MAX = 16
AGENTS_MAX = 16
FRESH_S = 1.0


async def list_waiting(
    tenant_id: str, pool_id: str, page_size: int, *, tools: Tools
) -> tuple[list[agent_pb2.WaitingConversation], int]:
    """Return those who wait in a pool in the order in which they are served, and how many do."""
    if not profile.is_pool_id(pool_id):
        return [], 0
    async with tools.uow.reading(tenant_id) as repository:
        found = await repository.queue.listed(tenant_id, pool_id, page_size or LIST_DEFAULT)
        count = await repository.queue.count(tenant_id, pool_id)
    return [messages.waiting(one) for one in found], count


async def explain_match(
    tenant_id: str,
    pool_id: str,
    channel: int,
    asked: conversation_pb2.Needs,
    page_size: int,
    *,
    tools: Tools,
    mirrors: Mirrors,
) -> list[agent_pb2.AgentScore]:
    """Return how the agents of a pool fit, the best first, then those who can't take it."""
    _check(channel, asked)
    if not profile.is_pool_id(pool_id):
        return []
    mirror = await mirrors.get(tenant_id, pool_id)
    await mirrors.check(tenant_id, pool_id, FRESH_S)
    now = tools.clock.now()
    request = Request(
        conversation_id="",
        hand_off=1,
        customer_id="",
        channel=channel,
        reason=conversation_pb2.HAND_OFF_REASON_UNSPECIFIED,
        needs=needs.read(asked),
        previous_agent_id="",
        hand_off_time=now,
        state=RequestState.WAITING,
    )
    question = mirror.question(request, now, mirror.loads(channel), ())
    explained = question.explain(page_size or EXPLAIN_DEFAULT)
    return [_score(mirror.at(one.column).agent_id, one, request) for one in explained]


def _score(agent_id: str, explained: Explained, request: Request) -> agent_pb2.AgentScore:
    reason = explained.reason if request.needs.admits(agent_id) else "EXCLUDED"
    return agent_pb2.AgentScore(
        agent_id=agent_id,
        eligible=not reason,
        reason=reason,
        score=explained.score,
        parts=[
            agent_pb2.ScorePart(name=name, value_micros=value, weight=weight, share=value * weight)
            for name, value, weight in zip(PARTS, explained.values, WEIGHTS.tolist(), strict=True)
        ],
    )


def _check(channel: int, asked: conversation_pb2.Needs) -> None:
    violations = []
    if channel not in profile.CHANNELS:
        text = f"{channel} is not a channel"
        violations.append(Violation("channel", text, "INVALID_CHANNEL"))
    for field, skills in (
        ("needs.required_skills", asked.required_skills),
        ("needs.wished_skills", asked.wished_skills),
    ):
        pairs = [(skill.name, skill.level) for skill in skills]
        violations += profile.skill_violations(field, pairs, SKILLS_MAX)
    if len(asked.excluded_agent_ids) > AGENTS_MAX:
        text = f"were {len(asked.excluded_agent_ids)}, expected at most {AGENTS_MAX}"
        violations.append(Violation("needs.excluded_agent_ids", text, "TOO_MANY_AGENTS"))
    if violations:
        first = violations[0]
        text = f"{first.field}: {first.description}"
        raise InvalidArgument(first.reason, text, violations=violations)
