"""Use cases of agents: who there is, and what they can."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from interchange.agent.v1 import agent_pb2

from services.agent import events, messages, profile
from services.agent.desk import Desk
from services.agent.domain import Agent, Profile, Status
from services.agent.floor import Tools, open_floor
from services.agent.profile import Details
from services.common import pagination, requests
from services.common.errors import AlreadyExists, InterchangeError, NotFound
from services.common.requests import Answered, RequestKey

Outcome: TypeAlias = agent_pb2.Agent | InterchangeError

LIST_MAX = 500


@dataclass(frozen=True, slots=True)
class CreateAgent:
    """An agent to create, with its idempotency key."""

    details: Details
    request: RequestKey


@dataclass(slots=True)
class _Creation:
    """A batch being decided: what exists, and what is new so far."""

    answered: Answered[agent_pb2.Agent]
    taken: set[str]
    agents: list[Agent] = field(default_factory=list)

    def decide(self, request: RequestKey, agent: Agent) -> agent_pb2.Agent:
        """Return the first answer of a repeat, else take the agent on."""
        first = self.answered.first(request)
        if first is not None:
            return first
        if agent.agent_id in self.taken:
            raise AlreadyExists(
                "AGENT_EXISTS",
                f"agent {agent.agent_id} exists",
                metadata={"agent_id": agent.agent_id},
            )
        message = messages.agent(agent)
        self.taken.add(agent.agent_id)
        self.agents.append(agent)
        return self.answered.give(request, message)


async def create_agents(
    tenant_id: str, commands: Sequence[CreateAgent], *, tools: Tools
) -> list[Outcome]:
    """Create agents; each outcome is the agent or why there is none."""
    checked = [_checked(command.details) for command in commands]
    if not any(isinstance(one, Profile) for one in checked):
        return [one for one in checked if isinstance(one, InterchangeError)]
    return await requests.settled(lambda: _create_agents(tenant_id, commands, checked, tools=tools))


def _checked(details: Details) -> Profile | InterchangeError:
    try:
        return profile.checked(details)
    except InterchangeError as error:
        return error


async def _create_agents(
    tenant_id: str,
    commands: Sequence[CreateAgent],
    checked: Sequence[Profile | InterchangeError],
    *,
    tools: Tools,
) -> list[Outcome]:
    valid = sorted({one.agent_id for one in checked if isinstance(one, Profile)})
    async with tools.uow.tenant(tenant_id, lock=valid) as work:
        repository, now = work.repository, tools.clock.now()
        known = await repository.keys.find(tenant_id, [command.request for command in commands])
        answered = Answered(agent_pb2.Agent, known)
        creation = _Creation(answered, set(await repository.find(tenant_id, valid)))
        outcomes: list[Outcome] = []
        for command, one in zip(commands, checked, strict=True):
            if isinstance(one, InterchangeError):
                outcomes.append(one)
                continue
            try:
                agent = Agent(one, Status.OFFLINE, {}, 0, now, 1, 1, now)
                outcomes.append(creation.decide(command.request, agent))
            except InterchangeError as error:
                outcomes.append(error)
        await creation.answered.store(tenant_id, repository.keys)
        await repository.insert(tenant_id, creation.agents)
        event_ids = tools.ids.batch(len(creation.agents), tools.clock.now_us())
        work.outbox.add(events.created(tenant_id, creation.agents, event_ids))
    tools.news.tell(tenant_id, [Desk(agent) for agent in creation.agents])
    return outcomes


async def update_agent(tenant_id: str, details: Details, *, tools: Tools) -> agent_pb2.Agent:
    """Replace what is set of an agent."""
    if not profile.is_agent_id(details.agent_id):
        raise not_found()
    wanted = profile.checked(details)
    async with open_floor(tenant_id, [details.agent_id], tools) as floor:
        desk = floor.desks.get(details.agent_id)
        if desk is None:
            raise not_found()
        desk.update(wanted, floor.now)
    return messages.agent(desk.agent)


async def get_agent(tenant_id: str, agent_id: str, *, tools: Tools) -> agent_pb2.Agent:
    """Return one agent or raise NotFound."""
    # An id that breaks its rule names nothing, and could be one that Postgres can't hold.
    if not profile.is_agent_id(agent_id):
        raise not_found()
    async with tools.uow.reading(tenant_id) as repository:
        found = await repository.find(tenant_id, [agent_id])
    if agent_id not in found:
        raise not_found()
    return messages.agent(found[agent_id])


async def list_agents(
    tenant_id: str, pool_id: str, status: int, page_size: int, page_token: str, *, tools: Tools
) -> tuple[list[agent_pb2.Agent], str]:
    """Return a page of agents by id and the token of the next, empty on the last."""
    filters = {"list": "agents", "tenant": tenant_id, "pool": pool_id, "status": status}
    size = pagination.page_size(page_size, max=LIST_MAX)
    last = pagination.keyset(page_token, filters, str)
    if pool_id and not profile.is_pool_id(pool_id):
        return [], ""
    after = "" if last is None else str(last[0])
    wanted = messages.STATUS_OF.get(agent_pb2.AgentStatus.ValueType(status))
    async with tools.uow.reading(tenant_id) as repository:
        rows = await repository.list_page(tenant_id, pool_id, wanted, after, size + 1)
    page = rows[:size]
    token = pagination.page_token([page[-1].agent_id], filters) if len(rows) > size else ""
    return [messages.agent(one) for one in page], token


def not_found() -> NotFound:
    """Return the error of an agent who isn't there, or isn't the caller's."""
    return NotFound("AGENT_NOT_FOUND", "there is no such agent")
