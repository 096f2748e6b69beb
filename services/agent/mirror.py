"""The agents of a pool as arrays, for the scorer: a copy that may lag.

What is read from it is only a proposal: the offer is decided in Postgres.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import numpy as np

from services.agent.domain import Agent, Request, Status
from services.agent.scorer import LAST, PREFERRED, Int32s, Int64s, Question, UInt8s

CHANNELS = 7
"""Rows of loads and limits: the numbers of channels, zero included."""
INT32_MAX = 2**31 - 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Mirror:
    """The agents of one pool."""

    def __init__(self, pool_id: str) -> None:
        self.pool_id = pool_id
        self._agents: dict[str, Agent] = {}
        self._arranged = False
        self._columns: dict[str, int] = {}
        self._rows: dict[str, int] = {}
        self._names: list[str] = []
        self._levels: UInt8s = np.zeros((1, 0), np.uint8)
        self._online: UInt8s = np.zeros(0, np.uint8)
        self._loads: Int32s = np.zeros((CHANNELS, 0), np.int32)
        self._limits: Int32s = np.zeros((CHANNELS, 0), np.int32)
        self._response_ms: Int32s = np.zeros(0, np.int32)
        self._idle_since_ms: Int64s = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._agents)

    def versions(self) -> dict[str, int]:
        """Return the version that is known of each agent."""
        return {name: agent.version for name, agent in self._agents.items()}

    def get(self, agent_id: str) -> Agent | None:
        """Return an agent as he is known here."""
        return self._agents.get(agent_id)

    def apply(self, agents: Iterable[Agent]) -> None:
        """Take what is newer than known; one of another pool is dropped."""
        for agent in agents:
            known = self._agents.get(agent.agent_id)
            if known is not None and known.version >= agent.version:
                continue
            if agent.pool_id != self.pool_id:
                self.drop([agent.agent_id])
                continue
            self._agents[agent.agent_id] = agent
            if known is None or known.profile.skills != agent.profile.skills:
                self._arranged = False
            elif self._arranged:
                self._place(self._columns[agent.agent_id], agent)

    def drop(self, agent_ids: Iterable[str]) -> None:
        """Forget agents who serve the pool no more."""
        for agent_id in agent_ids:
            if self._agents.pop(agent_id, None) is not None:
                self._arranged = False

    def free(self, channel: int) -> bool:
        """Tell whether anybody takes one more over a channel."""
        self._arrange()
        open_slots = self._loads[channel] < self._limits[channel]
        return bool(np.any(open_slots & (self._online != 0)))

    def anybody_free(self) -> bool:
        """Tell whether anybody takes one more over any channel."""
        self._arrange()
        return bool(np.any((self._loads < self._limits) & (self._online != 0)))

    def at(self, column: int) -> Agent:
        """Return the agent of a column."""
        return self._agents[self._names[column]]

    def loads(self, channel: int) -> Int32s:
        """Return a copy of the loads over a channel, by column."""
        self._arrange()
        loads: Int32s = self._loads[channel].copy()
        return loads

    def question(
        self, request: Request, now: datetime, loads: Int32s, passed_over: Iterable[str]
    ) -> Question:
        """Return what to ask the scorer for a request.

        `loads` are those over its channel, with what is handed out already;
        `passed_over` are agents who are not to be asked now.
        """
        self._arrange()
        needs = request.needs
        preference = np.zeros(len(self._names), np.uint8)
        for agent_id, value in (
            (request.previous_agent_id, LAST),
            (needs.preferred_agent_id, PREFERRED),
        ):
            if (column := self._columns.get(agent_id)) is not None:
                preference[column] = value
        # Only the preferred one: nobody else is there.
        online = (
            np.where(preference == PREFERRED, self._online, 0) if needs.preferred_only else None
        )
        excluded = {*needs.excluded_agent_ids, *passed_over}
        now_ms = (now - _EPOCH) // _MILLISECOND
        idle_ms = np.where(self._idle_since_ms, now_ms - self._idle_since_ms, 0)
        return Question(
            levels=self._levels,
            online=self._online if online is None else online.astype(np.uint8),
            load=loads,
            limit=self._limits[request.channel],
            response_ms=self._response_ms,
            idle_ms=np.clip(idle_ms, 0, INT32_MAX).astype(np.int32),
            preference=preference,
            required=self._asked(needs.required),
            wished=self._asked(needs.wished),
            excluded=[self._columns[name] for name in sorted(excluded) if name in self._columns],
        )

    def _asked(self, levels: Mapping[str, int]) -> dict[int, int]:
        # A skill that nobody has is the last row, which is zero.
        nobody = len(self._rows)
        asked: dict[int, int] = {}
        for name, level in levels.items():
            row = self._rows.get(name, nobody)
            asked[row] = max(level, asked.get(row, 0))
        return asked

    def _arrange(self) -> None:
        """Lay the arrays out anew, where agents or skills came or went."""
        if self._arranged:
            return
        # By id: ties go to the lower column, the same on every instance.
        self._names = sorted(self._agents)
        self._columns = {name: column for column, name in enumerate(self._names)}
        skills = sorted({name for one in self._agents.values() for name in one.profile.skills})
        self._rows = {name: row for row, name in enumerate(skills)}
        count = len(self._names)
        self._levels = np.zeros((len(skills) + 1, count), np.uint8)
        self._online = np.zeros(count, np.uint8)
        self._loads = np.zeros((CHANNELS, count), np.int32)
        self._limits = np.zeros((CHANNELS, count), np.int32)
        self._response_ms = np.zeros(count, np.int32)
        self._idle_since_ms = np.zeros(count, np.int64)
        for column, name in enumerate(self._names):
            agent = self._agents[name]
            for skill, level in agent.profile.skills.items():
                self._levels[self._rows[skill], column] = level
            self._place(column, agent)
        self._arranged = True

    def _place(self, column: int, agent: Agent) -> None:
        self._online[column] = agent.status is Status.ONLINE
        self._loads[:, column] = 0
        self._limits[:, column] = 0
        for channel, load in agent.loads.items():
            self._loads[channel, column] = load
        for channel, slots in agent.profile.slots.items():
            self._limits[channel, column] = slots
        self._response_ms[column] = min(agent.average_response_ms, INT32_MAX)
        idle = agent.idle_since
        self._idle_since_ms[column] = 0 if idle is None else (idle - _EPOCH) // _MILLISECOND
