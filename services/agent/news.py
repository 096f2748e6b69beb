"""What happens after a commit: mirrors, Redis, other instances and gateways are told.

Nothing here is waited for, and nothing depends on it: mirrors are compared with the
tables, and gateways ask for desks that they were not told of.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import structlog
from interchange.agent.v1 import agent_service_pb2
from interchange.gateway.v1 import gateway_pb2
from redis.asyncio import Redis

from services.agent import messages
from services.agent.agenda import Agenda
from services.agent.desk import Desk
from services.agent.domain import Agent, Offered, Status
from services.agent.floor import News
from services.agent.mirrors import Mirrors
from services.agent.reservations import FAULTS, Reservations, changes_channel, hold
from services.common.push import Pusher

log = structlog.get_logger()

WAITING_MAX = 10_000
"""Changes that wait for Redis, at most: beyond, the comparing repairs."""
RESTART_S = 0.2


@dataclass(frozen=True, slots=True)
class _Told:
    """A change of an agent on its way to Redis."""

    tenant_id: str
    agent: Agent
    pool_before: str
    ended: tuple[str, ...]
    """Holds that the change settles."""


class Told(News):
    """Tells everybody, by one task, in order."""

    def __init__(
        self,
        mirrors: Mirrors,
        reservations: Reservations,
        client: Redis,
        pusher: Pusher,
        agenda: Agenda,
    ) -> None:
        self._mirrors = mirrors
        self._reservations = reservations
        self._client = client
        self._pusher = pusher
        self._agenda = agenda
        self._waiting: deque[_Told] = deque(maxlen=WAITING_MAX)
        self._wake = asyncio.Event()

    def tell(self, tenant_id: str, desks: Sequence[Desk], waiting: Collection[str] = ()) -> None:
        """Tell of changed desks, and of the pools in which a request waits again."""
        self._mirrors.apply(tenant_id, [desk.agent for desk in desks])
        self._pusher.push(
            gateway_pb2.Push(
                tenant_id=tenant_id, subject=desk.agent.agent_id, desk=messages.desk(desk)
            )
            for desk in desks
        )
        for desk in desks:
            offered = [change.offer for change in desk.changes if isinstance(change, Offered)]
            if offered:
                self._agenda.due_at(min(offer.expire_time for offer in offered))
            ended = tuple(hold(offer.channel, offer.offer_id) for offer in offered)
            self._waiting.append(_Told(tenant_id, desk.agent, desk.stored.pool_id, ended))
        for pool_id in {*waiting, *(desk.agent.pool_id for desk in desks if _freed(desk))}:
            self._agenda.match(tenant_id, pool_id)
        self._wake.set()

    async def run(self) -> None:
        """Tell Redis and the other instances, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()

    async def flush(self) -> None:
        """Tell Redis and the other instances what waits."""
        while self._waiting:
            told = list(self._waiting)
            self._waiting.clear()
            try:
                await self._send(told)
            except FAULTS as error:
                log.warning("changes not told", count=len(told), error=repr(error))

    async def _send(self, told: Sequence[_Told]) -> None:
        by_pool: dict[tuple[str, str], dict[str, Agent]] = {}
        ended: dict[str, list[tuple[str, str]]] = {}
        for one in told:
            name = one.agent.agent_id
            for pool_id in {one.agent.pool_id, one.pool_before}:
                by_pool.setdefault((one.tenant_id, pool_id), {})[name] = one.agent
            if one.pool_before != one.agent.pool_id:
                await self._reservations.forget(one.tenant_id, one.pool_before, [name])
            ended.setdefault(one.tenant_id, []).extend((name, each) for each in one.ended)
        for (tenant_id, pool_id), agents in by_pool.items():
            present = [agent for agent in agents.values() if agent.pool_id == pool_id]
            await self._reservations.tell(tenant_id, present, ended.get(tenant_id, ()))
            changed = agent_service_pb2.ListAgentsResponse(
                agents=[messages.agent(agent) for agent in agents.values()]
            )
            channel = changes_channel(tenant_id, pool_id)
            await self._client.publish(channel, changed.SerializeToString())


class Changes:
    """Follows what other instances tell of agents."""

    def __init__(self, client: Redis, mirrors: Mirrors) -> None:
        self._client = client
        self._mirrors = mirrors

    async def run(self) -> None:
        """Take changes until cancelled; come back after Redis did."""
        while True:
            try:
                await self._listen()
            except FAULTS as error:
                log.warning("changes not followed", error=repr(error))
            await asyncio.sleep(RESTART_S)

    async def _listen(self) -> None:
        async with self._client.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.psubscribe("{*}:changes")
            while True:
                message = await pubsub.get_message(timeout=5)
                if message is not None:
                    self._take(message["channel"], message["data"])

    def _take(self, channel: bytes, data: bytes) -> None:
        tenant_id = channel.decode(errors="replace").partition(":")[0].lstrip("{")
        try:
            changed = agent_service_pb2.ListAgentsResponse.FromString(data)
            self._mirrors.apply(tenant_id, map(messages.agent_of, changed.agents))
        except Exception:
            # Anybody could publish: what is no change of ours must not end the following.
            log.exception("change not taken", size=len(data))


def _freed(desk: Desk) -> bool:
    """Tell whether an agent may take what he could not take before."""
    before, agent = desk.stored, desk.agent
    if agent.status is not Status.ONLINE:
        return False
    return (
        before.status is not Status.ONLINE
        or before.profile != agent.profile
        or any(agent.load(channel) < load for channel, load in before.loads.items())
    )
