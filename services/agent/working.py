"""Use cases of an agent at work: he comes and goes, accepts and declines.

A batch of a tenant's commands is one transaction; each has its own outcome.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from interchange.agent.v1 import agent_pb2

from services.agent import messages, profile
from services.agent.desk import Desk
from services.agent.domain import Offer, StateReason, Status
from services.agent.floor import Floor, Tools, open_floor
from services.agent.handlers import not_found
from services.common.errors import InterchangeError, InvalidArgument, NotFound

KNOWN_MAX = 2_000
"""Desks that one call asks for, at most."""


@dataclass(frozen=True, slots=True)
class SetStatus:
    """An agent says whether he takes conversations."""

    agent_id: str
    status: Status


@dataclass(frozen=True, slots=True)
class AcceptOffer:
    """An agent takes what he is offered."""

    agent_id: str
    offer_id: str


@dataclass(frozen=True, slots=True)
class DeclineOffer:
    """An agent refuses what he is offered."""

    agent_id: str
    offer_id: str


Command: TypeAlias = SetStatus | AcceptOffer | DeclineOffer
Outcome: TypeAlias = Desk | InterchangeError


async def work(tenant_id: str, commands: Sequence[Command], *, tools: Tools) -> list[Outcome]:
    """Do what agents say; each outcome is the desk afterwards or why nothing was done."""
    valid = {one.agent_id for one in commands if profile.is_agent_id(one.agent_id)}
    if not valid:
        return [not_found() for _ in commands]
    offer_ids = {one.offer_id for one in commands if not isinstance(one, SetStatus)}
    async with open_floor(tenant_id, valid, tools) as floor:
        offers = await floor.repository.offers(tenant_id, offer_ids)
        await floor.lock(_concerned(floor, commands, offers))
        return [_decided(floor, one, offers) for one in commands]


def _concerned(floor: Floor, commands: Sequence[Command], offers: Mapping[str, Offer]) -> set[str]:
    """Return the conversations whose requests may change."""
    concerned = {offer.conversation_id for offer in offers.values()}
    for command in commands:
        desk = floor.desks.get(command.agent_id)
        if desk is not None and isinstance(command, SetStatus):
            concerned |= {offer.conversation_id for offer in desk.offers.values()}
            concerned |= {one.conversation_id for one in desk.assignments.values()}
    return concerned


def _decided(floor: Floor, command: Command, offers: Mapping[str, Offer]) -> Outcome:
    desk = floor.desks.get(command.agent_id)
    if desk is None:
        return not_found()
    try:
        if isinstance(command, SetStatus):
            reason = StateReason.REQUESTED
            desk.set_status(command.status, reason, floor.requests, floor.now)
            return desk
        stored = offers.get(command.offer_id)
        if stored is None or stored.agent_id != command.agent_id:
            raise NotFound("OFFER_NOT_FOUND", "there is no such offer")
        offer = desk.known(stored)
        request = floor.requests.get(offer.conversation_id)
        if isinstance(command, AcceptOffer):
            desk.accept(offer, request, floor.now)
        else:
            desk.decline(offer, request, floor.now)
    except InterchangeError as error:
        return error
    return desk


async def get_desk(tenant_id: str, agent_id: str, *, tools: Tools) -> agent_pb2.Desk:
    """Return what an agent has in front of him, or raise NotFound."""
    if not profile.is_agent_id(agent_id):
        raise not_found()
    async with tools.uow.reading(tenant_id) as repository:
        desks = await repository.desks(tenant_id, [agent_id])
    if agent_id not in desks:
        raise not_found()
    return messages.desk(desks[agent_id])


async def list_desks(
    tenant_id: str, known: Sequence[tuple[str, int]], *, tools: Tools
) -> list[agent_pb2.Desk]:
    """Return the desks that are newer than known; who is no agent has none."""
    if len(known) > KNOWN_MAX:
        text = f"were {len(known)}, expected at most {KNOWN_MAX}"
        raise InvalidArgument.of("known", "TOO_MANY_DESKS", text)
    valid = {name: version for name, version in known if profile.is_agent_id(name)}
    if not valid:
        return []
    async with tools.uow.reading(tenant_id) as repository:
        desks = await repository.newer_desks(tenant_id, valid)
    return [messages.desk(desk) for desk in desks]
