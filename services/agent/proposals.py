"""Who could take each waiting conversation: the pure part of matching."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.agent.domain import Agent, Request
from services.agent.mirror import Mirror
from services.agent.scorer import Int32s


@dataclass(frozen=True, slots=True)
class Candidate:
    """An agent who could take a request, and how well he fits."""

    agent: Agent
    score: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """The best few agents of a request, best first."""

    request: Request
    candidates: Sequence[Candidate]


def propose(
    mirror: Mirror, requests: Sequence[Request], now: datetime, pause: timedelta, count: int
) -> list[Proposal]:
    """Return the best agents of each request, in order; one whom nobody fits is left out.

    What goes to a request is taken when the next one is looked at, so that requests
    which want the same agent spread over those who are as good.
    """
    return _Proposing(mirror, now, pause, count).all(requests)


class _Proposing:
    """One pass over requests: what it hands out, and what nobody can take any more."""

    def __init__(self, mirror: Mirror, now: datetime, pause: timedelta, count: int) -> None:
        self._mirror = mirror
        self._now = now
        self._pause = pause
        self._count = count
        self._loads: dict[int, Int32s] = {}
        # Loads only grow while we pass: what nobody can take now stays so for all alike,
        # and a long queue costs little where the free agents fit nobody in it.
        self._hopeless: set[tuple[int, frozenset[tuple[str, int]]]] = set()

    def all(self, requests: Sequence[Request]) -> list[Proposal]:
        proposals = []
        for request in requests:
            if not self._mirror.free(request.channel):
                continue
            kind = (request.channel, frozenset(request.needs.required.items()))
            if kind in self._hopeless:
                continue
            if found := self._one(request):
                proposals.append(Proposal(request, found))
            elif _takes_anybody(request):
                self._hopeless.add(kind)
        return proposals

    def _one(self, request: Request) -> list[Candidate]:
        # Those who did not have it in vain go first. Then those whose pause is over: a
        # customer whom everybody declined begins the round again.
        found = self._asked(request, request.declined)
        if found or not request.declined:
            return found
        paused = [name for name, when in request.declined.items() if when + self._pause > self._now]
        return self._asked(request, paused) if len(paused) < len(request.declined) else []

    def _asked(self, request: Request, passed_over: Collection[str]) -> list[Candidate]:
        loads = self._loads.get(request.channel)
        if loads is None:
            loads = self._loads[request.channel] = self._mirror.loads(request.channel)
        question = self._mirror.question(request, self._now, loads, passed_over)
        columns, scores = question.best(self._count)
        if columns:
            loads[columns[0]] += 1
        return [
            Candidate(self._mirror.at(column), score)
            for column, score in zip(columns, scores, strict=True)
        ]


def _takes_anybody(request: Request) -> bool:
    """Tell whether nothing but skills keeps an agent from a request."""
    needs = request.needs
    return not (request.declined or needs.excluded_agent_ids or needs.preferred_only)
