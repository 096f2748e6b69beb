"""gRPC in: requests to commands, results to responses.

Calls that write are gathered: those that arrive while a batch is being written
are the next one.
"""

from collections.abc import Sequence
from typing import Any

from interchange.agent.v1 import agent_pb2
from interchange.agent.v1 import agent_service_pb2 as pb
from interchange.agent.v1.agent_service_pb2_grpc import AgentServiceServicer

from services.agent import commands, explaining, handlers, messages, working
from services.agent.desk import Desk
from services.agent.floor import Tools
from services.agent.mirrors import Mirrors
from services.common import identity
from services.common.batcher import Batcher
from services.common.errors import InterchangeError


class AgentServicer(AgentServiceServicer):
    """Knows who is free for what, and what each agent has in front of him."""

    def __init__(self, tools: Tools, mirrors: Mirrors, batch_size_max: int) -> None:
        self._tools = tools
        self._mirrors = mirrors
        self._creations = Batcher(self._create, batch_size_max)
        self._work = Batcher(self._do, batch_size_max)

    async def CreateAgent(self, request: pb.CreateAgentRequest, context: Any) -> agent_pb2.Agent:
        """Create an agent."""
        tenant_id = identity.current().tenant_id
        return await self._creations.submit(tenant_id, commands.create_agent(request))

    async def UpdateAgent(self, request: pb.UpdateAgentRequest, context: Any) -> agent_pb2.Agent:
        """Replace name, pool, skills and capacities of an agent."""
        tenant_id = identity.current().tenant_id
        details = commands.details(request.agent)
        return await handlers.update_agent(tenant_id, details, tools=self._tools)

    async def GetAgent(self, request: pb.GetAgentRequest, context: Any) -> agent_pb2.Agent:
        """Return one agent."""
        tenant_id = identity.current().tenant_id
        return await handlers.get_agent(tenant_id, request.agent_id, tools=self._tools)

    async def ListAgents(
        self, request: pb.ListAgentsRequest, context: Any
    ) -> pb.ListAgentsResponse:
        """List agents by id."""
        agents, token = await handlers.list_agents(
            identity.current().tenant_id,
            request.pool_id,
            request.status,
            request.page_size,
            request.page_token,
            tools=self._tools,
        )
        return pb.ListAgentsResponse(agents=agents, next_page_token=token)

    async def SetAgentStatus(
        self, request: pb.SetAgentStatusRequest, context: Any
    ) -> agent_pb2.Agent:
        """Say whether an agent takes conversations."""
        tenant_id = _own(request.agent_id)
        desk = await self._work.submit(tenant_id, commands.set_status(request))
        return messages.agent(desk.agent)

    async def GetDesk(self, request: pb.GetDeskRequest, context: Any) -> agent_pb2.Desk:
        """Return what an agent is offered and what he answers."""
        tenant_id = _own(request.agent_id)
        return await working.get_desk(tenant_id, request.agent_id, tools=self._tools)

    async def AcceptOffer(self, request: pb.AcceptOfferRequest, context: Any) -> agent_pb2.Desk:
        """Take a conversation that is offered."""
        tenant_id = _own(request.agent_id)
        return messages.desk(await self._work.submit(tenant_id, commands.accept_offer(request)))

    async def DeclineOffer(self, request: pb.DeclineOfferRequest, context: Any) -> agent_pb2.Desk:
        """Decline a conversation that is offered."""
        tenant_id = _own(request.agent_id)
        return messages.desk(await self._work.submit(tenant_id, commands.decline_offer(request)))

    async def ListWaitingConversations(
        self, request: pb.ListWaitingConversationsRequest, context: Any
    ) -> pb.ListWaitingConversationsResponse:
        """List the conversations that wait in a pool, those that go first at first."""
        found, count = await explaining.list_waiting(
            identity.current().tenant_id, request.pool_id, request.page_size, tools=self._tools
        )
        return pb.ListWaitingConversationsResponse(conversations=found, total_count=count)

    async def ExplainMatch(
        self, request: pb.ExplainMatchRequest, context: Any
    ) -> pb.ExplainMatchResponse:
        """Explain how the agents of a pool fit what a conversation needs."""
        scores = await explaining.explain_match(
            identity.current().tenant_id,
            request.pool_id,
            request.channel,
            request.needs,
            request.page_size,
            tools=self._tools,
            mirrors=self._mirrors,
        )
        return pb.ExplainMatchResponse(scores=scores)

    async def ListDesks(self, request: pb.ListDesksRequest, context: Any) -> pb.ListDesksResponse:
        """Return the desks of agents whose version is newer than the one known."""
        tenant_id = identity.current().tenant_id
        known = [(one.agent_id, one.version) for one in request.known]
        return pb.ListDesksResponse(
            desks=await working.list_desks(tenant_id, known, tools=self._tools)
        )

    async def _create(
        self, tenant_id: str, batch: Sequence[handlers.CreateAgent]
    ) -> list[agent_pb2.Agent | InterchangeError]:
        return await handlers.create_agents(tenant_id, batch, tools=self._tools)

    async def _do(
        self, tenant_id: str, batch: Sequence[working.Command]
    ) -> list[Desk | InterchangeError]:
        return await working.work(tenant_id, batch, tools=self._tools)


def _own(agent_id: str) -> str:
    """Return the caller's tenant; raises NotFound when he may not act for the agent."""
    caller = identity.current()
    if caller.narrow and caller.subject != agent_id:
        raise handlers.not_found()
    return caller.tenant_id
