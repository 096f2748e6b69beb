"""Use cases of sessions over a fake store: batches, and who is told what."""

from datetime import timedelta
from typing import Any

import pytest

from services.common.errors import FailedPrecondition, NotFound, ResourceExhausted, Unavailable
from services.session import handlers, instances
from services.session.commands import Close, Command, Keep, Outcome, Resume, new_secret
from services.session.domain import OPEN_MAX, End
from services.session.register import Standing
from tests.unit.session_fakes import TIMINGS, FakePusher, FakeUnits, attaching, opening


class House:
    """The use cases with their fakes."""

    def __init__(self) -> None:
        self.uow = FakeUnits()
        self.pusher = FakePusher()
        self.with_: dict[str, Any] = {
            "uow": self.uow,
            "timings": TIMINGS,
            "pusher": self.pusher,
        }

    async def settle(self, *commands: Command, tenant: str = "acme") -> list[Any]:
        return list(await handlers.settle(tenant, commands, **self.with_))

    async def one(self, command: Command, tenant: str = "acme") -> Outcome:
        (outcome,) = await self.settle(command, tenant=tenant)
        assert isinstance(outcome, Outcome), outcome
        return outcome

    def pass_time(self, seconds: float) -> None:
        self.uow.repository.time += timedelta(seconds=seconds)


@pytest.fixture
def house() -> House:
    return House()


async def test_a_batch_is_one_transaction_that_locks_each_subject(house: House) -> None:
    outcomes = await house.settle(opening("bob"), opening("ann"), opening("bob"))

    assert house.uow.locked == [["ann", "bob"]]
    assert [one.session.subject for one in outcomes] == ["bob", "ann", "bob"]
    assert house.uow.sequences("bob") == [1, 2]
    assert house.uow.repository.known["acme", "bob"] == Standing(2, 2)
    assert house.pusher.moves == [("acme", "bob", True), ("acme", "ann", True)]


async def test_what_is_refused_fails_nobody_else_and_writes_nothing(house: House) -> None:
    known = (await house.one(opening())).session.session_id

    outcomes = await house.settle(
        Keep("bob", known), Resume("ann", known, "wrong"), Keep("ann", known), opening("cy")
    )

    assert [type(one) for one in outcomes] == [NotFound, NotFound, Outcome, Outcome]
    assert house.uow.sequences("bob") == []
    assert house.uow.repository.sessions[known].resume_count == 0


async def test_commands_of_a_batch_see_what_those_before_them_did(house: House) -> None:
    known = (await house.one(opening())).session.session_id

    ended, again, late = await house.settle(
        Close("ann", known), Close("ann", known), Keep("ann", known)
    )

    assert ended.session == again.session
    assert ended.session.end is End.CLOSED
    assert isinstance(late, FailedPrecondition)
    assert house.uow.sequences("ann") == [1, 2]


async def test_who_comes_and_goes_within_a_batch_was_not_away(house: House) -> None:
    known = (await house.one(opening())).session.session_id
    house.pusher.moves.clear()

    await house.settle(Close("ann", known), opening())

    assert house.pusher.moves == []


async def test_a_session_taken_up_twice_in_a_batch_stays_with_the_last(house: House) -> None:
    first = (await house.one(attaching())).session.session_id
    assert house.uow.repository.leases["g-1"] == house.uow.repository.time + TIMINGS.lease

    outcomes = await house.settle(
        attaching(instance_id="g-2", session_id=first, secret="fresh"),
        attaching(instance_id="g-1", session_id=first, secret="fresh"),
    )

    assert [one.resumed for one in outcomes] == [True, True]
    assert house.uow.repository.sessions[first].instance_id == "g-1"
    assert house.uow.repository.losses == {("g-2", first): 0}


async def test_an_instance_that_lives_is_not_written_at_each_attachment(house: House) -> None:
    await house.one(attaching())
    lease_time = house.uow.repository.leases["g-1"]
    house.pass_time(5)

    later = await house.one(attaching("bob"))

    assert house.uow.repository.leases["g-1"] == later.session.lease_time == lease_time


async def test_one_subject_has_not_more_sessions_than_a_thousand(house: House) -> None:
    await house.one(opening())
    house.uow.repository.known["acme", "ann"] = Standing(OPEN_MAX - 1, 7)

    last, beyond, other = await house.settle(opening(), opening(), opening("bob"))

    assert isinstance(last, Outcome)
    assert isinstance(beyond, ResourceExhausted)
    assert isinstance(other, Outcome)
    assert house.uow.sequences("ann") == [1, 8]


async def test_the_same_subject_of_two_tenants_is_two(house: House) -> None:
    here = await house.one(opening())
    await house.one(opening(), tenant="globex")

    await house.one(Close("ann", here.session.session_id))

    assert house.pusher.moves == [
        ("acme", "ann", True),
        ("globex", "ann", True),
        ("acme", "ann", False),
    ]
    online = await handlers.list_presence("globex", ["ann"], uow=house.uow)
    assert (online, await handlers.list_presence("acme", ["ann"], uow=house.uow)) == (["ann"], [])


async def test_detaching_locks_only_whose_sessions_they_are(house: House) -> None:
    mine = (await house.one(attaching("ann"))).session.session_id
    theirs = (await house.one(attaching("bob", "g-2"))).session.session_id
    house.uow.locked.clear()

    count = await instances.detach("acme", "g-1", [mine], [theirs], **house.with_)

    assert count == 1
    assert house.uow.locked == [["ann"]]
    assert house.uow.repository.sessions[theirs].instance_id == "g-2"
    assert house.uow.repository.losses == {}


async def test_an_instance_can_not_revive_what_is_over(house: House) -> None:
    known = (await house.one(attaching())).session.session_id
    house.pass_time(45)

    assert await instances.detach("acme", "g-1", (), [known], **house.with_) == 0
    assert house.uow.repository.sessions[known].instance_id == "g-1"


async def test_a_dead_instance_attaches_nothing_and_fails_nobody_else(house: House) -> None:
    await house.one(attaching())
    house.pass_time(45)

    dead, other = await house.settle(attaching("bob"), attaching("bob", "g-2"))

    assert isinstance(dead, Unavailable)
    assert dead.reason == "INSTANCE_DEAD"
    assert other.session.instance_id == "g-2"


def test_secrets_are_long_and_never_the_same() -> None:
    made = {new_secret() for _ in range(1000)}

    assert len(made) == 1000
    assert {len(one) for one in made} == {43}


def test_secrets_are_not_shown_by_accident() -> None:
    command = attaching(secret="s3cret")

    assert "s3cret" not in repr(command)
    assert "fresh" not in repr(command)
