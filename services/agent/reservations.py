"""Agents in Redis: what is free, and what somebody is about to take.

All keys of a pool share one hash tag, so that one Lua call touches one slot. Redis is
fast and Postgres decides: what is missing, lost or wrong here costs a lost race, and
never gives a slot out twice. Without Redis matching goes on.
"""

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog
from prometheus_client import Counter
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import NoScriptError, RedisError

from services.agent.domain import Agent, Status
from services.agent.proposals import Proposal

log = structlog.get_logger()

FAULTS = (RedisError, OSError, TimeoutError)
HOLD_MS = 2_000
"""How long a slot stays held by an instance that does not come back."""
KEEP_MS = 24 * 3600 * 1000
"""How long the state of an agent of whom nothing is heard stays."""
RESERVE_TIMEOUT_S = 0.25
AWAY_S = 1.0
"""How long a Redis that failed is left alone."""
WRITES_MAX = 200
"""Agents written in one round trip."""

UNAVAILABLE = Counter("agent_redis_unavailable_total", "Batches matched without Redis")

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Reservation:
    """What Redis said to a proposal."""

    candidate: int | None
    """Index of the one whose slot is held; None when none is free."""
    held: bool = False
    """Somebody else held a slot: he may not use it."""
    newer: bool = False
    """Redis has heard of a candidate what the caller has not."""


class Reserving(Protocol):
    """Holds slots; the port that tests fake."""

    async def reserve(
        self, tenant_id: str, pool_id: str, tokens: Sequence[str], proposals: Sequence[Proposal]
    ) -> list[Reservation] | None:
        """Hold the first free slot of each proposal; None when Redis does not answer."""
        ...

    async def release(self, tenant_id: str, pool_id: str, held: Sequence[tuple[str, str]]) -> None:
        """End holds that came to nothing: (agent, field)."""
        ...


class Reservations(Reserving):
    """The pools in Redis."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._reserve: AsyncScript = client.register_script((_FOLDER / "reserve.lua").read_text())
        self._tell: AsyncScript = client.register_script((_FOLDER / "tell.lua").read_text())
        self._away_until = 0.0
        self._torn: set[tuple[str, str]] = set()

    def torn(self) -> set[tuple[str, str]]:
        """Return and forget the pools that were found incomplete: Redis lost them."""
        torn, self._torn = self._torn, set()
        return torn

    async def reserve(
        self, tenant_id: str, pool_id: str, tokens: Sequence[str], proposals: Sequence[Proposal]
    ) -> list[Reservation] | None:
        """Hold the first free slot of each proposal, in one round trip."""
        if not proposals or time.monotonic() < self._away_until:
            return None
        calls = [
            (_keys(tenant_id, pool_id, proposal), _arguments(token, proposal))
            for token, proposal in zip(tokens, proposals, strict=True)
        ]
        try:
            async with asyncio.timeout(RESERVE_TIMEOUT_S):
                answers = await self._run(self._reserve, calls)
        except FAULTS as error:
            self._failed(error)
            return None
        if not all(answer[3] for answer in answers):
            self._torn.add((tenant_id, pool_id))
        return [
            Reservation(answer[0] - 1 if answer[0] else None, bool(answer[1]), bool(answer[2]))
            for answer in answers
        ]

    async def tell(
        self,
        tenant_id: str,
        agents: Collection[Agent],
        ended: Sequence[tuple[str, str]] = (),
        *,
        forced: bool = False,
    ) -> None:
        """Store what was committed of agents, and end holds of theirs: (agent, field)."""
        holds: dict[str, list[str]] = {}
        for agent_id, field in ended:
            holds.setdefault(agent_id, []).append(field)
        calls: list[tuple[list[str], list[Any]]] = []
        for agent in agents:
            fields = _fields(agent)
            arguments = [agent.version, int(forced), KEEP_MS, len(fields) // 2, *fields]
            key = state_key(tenant_id, agent.pool_id, agent.agent_id)
            calls.append(([key], [*arguments, *holds.get(agent.agent_id, ())]))
        for start in range(0, len(calls), WRITES_MAX):
            await self._run(self._tell, calls[start : start + WRITES_MAX])

    async def rebuild(self, tenant_id: str, pool_id: str, agents: Collection[Agent]) -> None:
        """Store a whole pool as the tables have it."""
        await self.tell(tenant_id, agents, forced=True)
        await self._client.set(mark_key(tenant_id, pool_id), b"1")

    async def whole(self, pools: Sequence[tuple[str, str]]) -> list[bool]:
        """Tell of each pool whether Redis has it."""
        pipeline = self._client.pipeline(transaction=False)
        for tenant_id, pool_id in pools:
            pipeline.exists(mark_key(tenant_id, pool_id))
        return [bool(found) for found in await pipeline.execute()]

    async def release(self, tenant_id: str, pool_id: str, held: Sequence[tuple[str, str]]) -> None:
        """End holds that came to nothing: (agent, field)."""
        pipeline = self._client.pipeline(transaction=False)
        for agent_id, field in held:
            pipeline.hdel(state_key(tenant_id, pool_id, agent_id), field)
        await pipeline.execute()

    async def forget(self, tenant_id: str, pool_id: str, agent_ids: Collection[str]) -> None:
        """Drop agents who left a pool."""
        for agent_id in agent_ids:
            await self._client.delete(state_key(tenant_id, pool_id, agent_id))

    async def _run(
        self, script: AsyncScript, calls: Sequence[tuple[list[str], list[Any]]]
    ) -> list[Any]:
        answers = await self._attempt(script, calls)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            # Another Redis than before: the scripts are gone with the rest. What ran
            # already may run again: a token holds one slot of an agent.
            await self._client.script_load(script.script)
            answers = await self._attempt(script, calls)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _attempt(
        self, script: AsyncScript, calls: Sequence[tuple[list[str], list[Any]]]
    ) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for keys, arguments in calls:
            pipeline.evalsha(script.sha, len(keys), *keys, *arguments)
        return list(await pipeline.execute(raise_on_error=False))

    def _failed(self, error: Exception) -> None:
        self._away_until = time.monotonic() + AWAY_S
        UNAVAILABLE.inc()
        log.warning("matching without redis", error=repr(error))


def state_key(tenant_id: str, pool_id: str, agent_id: str) -> str:
    """Return the key of an agent's state."""
    return f"{{{tenant_id}:{pool_id}}}:agent:{agent_id}"


def mark_key(tenant_id: str, pool_id: str) -> str:
    """Return the key that says that Redis has the whole pool."""
    return f"{{{tenant_id}:{pool_id}}}:whole"


def changes_channel(tenant_id: str, pool_id: str) -> str:
    """Return the channel on which instances tell each other of a pool's agents."""
    return f"{{{tenant_id}:{pool_id}}}:changes"


def hold(channel: int, token: str) -> str:
    """Return the field by which a token holds a slot."""
    return f"hold:{channel}:{token}"


def _keys(tenant_id: str, pool_id: str, proposal: Proposal) -> list[str]:
    return [
        mark_key(tenant_id, pool_id),
        *(
            state_key(tenant_id, pool_id, candidate.agent.agent_id)
            for candidate in proposal.candidates
        ),
    ]


def _arguments(token: str, proposal: Proposal) -> list[Any]:
    channel = proposal.request.channel
    # One text for all: each argument costs the client.
    known = "".join(
        f"{agent.version},{int(agent.status is Status.ONLINE)},{agent.load(channel)},"
        f"{agent.profile.slots.get(channel, 0)};"
        for agent in (candidate.agent for candidate in proposal.candidates)
    )
    return [hold(channel, token), channel, HOLD_MS, KEEP_MS, known]


def _fields(agent: Agent) -> list[Any]:
    fields: list[Any] = ["online", int(agent.status is Status.ONLINE)]
    for channel, slots in agent.profile.slots.items():
        fields += [f"limit:{channel}", slots, f"load:{channel}", agent.load(channel)]
    return fields
