"""Any order of openings, sockets, heartbeats, breaks, kills and time, against a plain model."""

from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.common.errors import FailedPrecondition, InterchangeError, Unavailable
from services.session import events, handlers, instances
from services.session.commands import Close, Command, Keep, Outcome, Resume
from services.session.sweep import end_due
from services.session.writing import save
from tests.unit.session_fakes import TIMINGS, FakePusher, FakeUnits, attaching, opening

T = TypeVar("T")

SUBJECTS = st.sampled_from(["ann", "bob"])
INSTANCES = st.sampled_from(["g-1", "g-2"])
TENANTS = st.sampled_from(["acme", "globex"])
PICKS = st.integers(0, 3)
SECONDS = st.sampled_from([1, 15, 30, 45])


def done(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns that waits for nothing: all its ports are fakes."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it waits")


@dataclass
class Known:
    """What the model knows of a session."""

    tenant: str
    subject: str
    secret: str
    until: datetime | None
    """Until when it lives without a holder."""
    holder: str = ""
    over: bool = False


class SessionMachine(RuleBasedStateMachine):
    """Two tenants with the same subjects, two instances that heartbeat or don't."""

    def __init__(self) -> None:
        super().__init__()
        self.uow = FakeUnits()
        self.store = self.uow.repository
        self.pusher = FakePusher()
        self.model: dict[str, Known] = {}
        self.leases: dict[str, datetime] = {}
        self.with_: Any = {"uow": self.uow, "timings": TIMINGS, "pusher": self.pusher}

    def settle(self, tenant: str, command: Command) -> Any:
        (outcome,) = done(handlers.settle(tenant, [command], **self.with_))
        return outcome

    def lives(self, known: Known) -> bool:
        if known.over:
            return False
        if known.holder:
            return self.leases[known.holder] + TIMINGS.resume > self.store.time
        assert known.until is not None
        return known.until > self.store.time

    def pick(self, number: int) -> tuple[str, Known] | None:
        names = sorted(self.model, reverse=True)
        return (
            (names[number % len(names)], self.model[names[number % len(names)]]) if names else None
        )

    def join(self, instance: str) -> bool:
        """Let an instance live that attaches; False when it is dead and not buried."""
        if self.leases.get(instance, self.store.time) <= self.store.time:
            return self.renew(instance)
        return True

    def renew(self, instance: str) -> bool:
        dead_since = self.store.time - TIMINGS.resume
        dead = self.leases.get(instance, self.store.time) <= dead_since
        if dead and any(one.holder == instance for one in self.model.values()):
            return False
        self.leases[instance] = self.store.time + TIMINGS.lease
        return True

    @rule(tenant=TENANTS, subject=SUBJECTS)
    def open(self, tenant: str, subject: str) -> None:
        outcome = self.settle(tenant, opening(subject))
        until = self.store.time + TIMINGS.keep
        self.model[outcome.session.session_id] = Known(tenant, subject, "secret", until)

    @rule(tenant=TENANTS, subject=SUBJECTS, instance=INSTANCES)
    def attach(self, tenant: str, subject: str, instance: str) -> None:
        outcome = self.settle(tenant, attaching(subject, instance))
        if not self.join(instance):
            assert isinstance(outcome, Unavailable)
            return
        self.model[outcome.session.session_id] = Known(tenant, subject, "fresh", None, instance)

    @rule(number=PICKS, instance=INSTANCES)
    def reattach(self, number: int, instance: str) -> None:
        if (found := self.pick(number)) is None:
            return
        name, known = found
        lived = self.lives(known)
        outcome = self.settle(known.tenant, attaching(known.subject, instance, name, known.secret))
        if not self.join(instance):
            assert isinstance(outcome, Unavailable)
            return
        assert outcome.resumed == lived
        if lived:
            known.holder, known.until = instance, None
        else:
            name = outcome.session.session_id
            self.model[name] = Known(known.tenant, known.subject, "fresh", None, instance)

    @rule(number=PICKS)
    def heartbeat(self, number: int) -> None:
        if (found := self.pick(number)) is None:
            return
        name, known = found
        lived = self.lives(known)
        self.agreed(self.settle(known.tenant, Keep(known.subject, name)), lived)
        if lived and not (known.holder and self.leases[known.holder] > self.store.time):
            known.holder, known.until = "", self.store.time + TIMINGS.keep

    @rule(number=PICKS)
    def resume(self, number: int) -> None:
        if (found := self.pick(number)) is None:
            return
        name, known = found
        lived = self.lives(known)
        self.agreed(self.settle(known.tenant, Resume(known.subject, name, known.secret)), lived)
        if lived:
            known.holder, known.until = "", self.store.time + TIMINGS.keep

    @rule(number=PICKS)
    def close(self, number: int) -> None:
        if found := self.pick(number):
            name, known = found
            assert isinstance(self.settle(known.tenant, Close(known.subject, name)), Outcome)
            known.over, known.holder = True, ""

    @rule(number=PICKS, instance=INSTANCES, goodbye=st.booleans())
    def detach(self, number: int, instance: str, goodbye: bool) -> None:
        if (found := self.pick(number)) is None:
            return
        name, known = found
        mine = self.lives(known) and known.holder == instance
        ended, broken = ([name], ()) if goodbye else ((), [name])
        count = done(instances.detach(known.tenant, instance, ended, broken, **self.with_))
        assert count == mine
        if mine:
            known.holder, known.until = "", self.store.time + TIMINGS.resume
            known.over = goodbye

    @rule(instance=INSTANCES)
    def instance_heartbeat(self, instance: str) -> None:
        lost = done(instances.heartbeat("acme", instance, uow=self.uow, timings=TIMINGS))
        self.renew(instance)
        held = {name for name, known in self.model.items() if known.holder == instance}
        assert not {name for name in lost if name in held and self.lives(self.model[name])}

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: int) -> None:
        self.store.time += timedelta(seconds=seconds)

    @rule()
    def sweep(self) -> None:
        done(self._sweep())
        for name, known in self.model.items():
            if not self.lives(known):
                known.over, known.holder = True, ""
            assert (self.store.sessions[name].end is not None) == known.over

    async def _sweep(self) -> None:
        found = [one for one in self.store._all() if one.end is None]
        async with self.uow.tenant("acme") as work:
            register = await end_due(found, self.store, TIMINGS)
            await save(register, work)
        self.pusher.push(events.presences(register.moves))

    @staticmethod
    def agreed(outcome: Outcome | InterchangeError, lived: bool) -> None:
        assert isinstance(outcome, Outcome if lived else FailedPrecondition), outcome

    @invariant()
    def events_are_numbered_without_gaps_and_counts_are_right(self) -> None:
        numbered: dict[tuple[str, str], list[int]] = {}
        for columns in self.uow.events:
            for key, sequence in zip(columns.keys, columns.sequences, strict=True):
                numbered.setdefault((columns.tenant_id, key), []).append(sequence)
        for subject, standing in self.store.known.items():
            assert numbered[subject] == list(range(1, standing.last_sequence + 1))
            still_open = [
                one
                for one in self.store.sessions.values()
                if (one.tenant_id, one.subject) == subject and one.end is None
            ]
            assert len(still_open) == standing.open_count

    @invariant()
    def who_follows_knows_who_is_there(self) -> None:
        there: dict[tuple[str, str], bool] = {}
        for tenant, subject, online in self.pusher.moves:
            assert there.get((tenant, subject), False) != online, "nobody comes twice"
            there[tenant, subject] = online
        for subject, standing in self.store.known.items():
            assert there.get(subject, False) == (standing.open_count > 0)


SessionMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestSessions = SessionMachine.TestCase
