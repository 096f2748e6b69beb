"""Requests to commands."""

from interchange.agent.v1 import agent_pb2
from interchange.agent.v1 import agent_service_pb2 as pb

from services.agent.handlers import CreateAgent
from services.agent.messages import STATUS_OF
from services.agent.profile import Details
from services.agent.working import AcceptOffer, DeclineOffer, SetStatus
from services.common.requests import RequestKey

OUTPUT_ONLY = ("status", "loads", "average_response_ms", "idle_since", "version")


def create_agent(request: pb.CreateAgentRequest) -> CreateAgent:
    """Return the command of a request."""
    given = {descriptor.name for descriptor, _ in request.agent.ListFields()}
    output_only = tuple(name for name in OUTPUT_ONLY if name in given)
    return CreateAgent(details(request.agent, output_only), RequestKey.of("CreateAgent", request))


def details(agent: agent_pb2.Agent, output_only: tuple[str, ...] = ()) -> Details:
    """Return what a caller set of an agent.

    Who updates may send back what he read: fields of the server are left out then.
    """
    return Details(
        agent_id=agent.agent_id,
        display_name=agent.display_name,
        pool_id=agent.pool_id,
        skills=[(skill.name, skill.level) for skill in agent.skills],
        capacities=[(capacity.channel, capacity.limit) for capacity in agent.capacities],
        output_only=output_only,
    )


def set_status(request: pb.SetAgentStatusRequest) -> SetStatus:
    """Return the command of a request."""
    return SetStatus(request.agent_id, STATUS_OF[request.status])


def accept_offer(request: pb.AcceptOfferRequest) -> AcceptOffer:
    """Return the command of a request."""
    return AcceptOffer(request.agent_id, request.offer_id.lower())


def decline_offer(request: pb.DeclineOfferRequest) -> DeclineOffer:
    """Return the command of a request."""
    return DeclineOffer(request.agent_id, request.offer_id.lower())
