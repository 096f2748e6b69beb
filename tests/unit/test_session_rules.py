"""When a session lives, is taken up and ends: the rules alone."""

from dataclasses import replace
from datetime import timedelta

import pytest

from services.common.errors import FailedPrecondition, InvalidArgument, NotFound
from services.session import domain
from services.session.domain import End, Kind, Session
from tests.unit.session_fakes import START, TIMINGS

SECOND = timedelta(seconds=1)
FREE = Session(
    tenant_id="acme",
    session_id="0195c0de-0000-7000-8000-000000000001",
    subject="ann",
    kind=Kind.CUSTOMER,
    client="test",
    secret_hash=domain.hash_of("secret"),
    open_time=START,
    expire_time=START + 60 * SECOND,
)
HELD = domain.held(FREE, "g-1", START + 15 * SECOND, START)


@pytest.mark.parametrize(("session", "lives_s"), [(FREE, 60), (HELD, 45)], ids=["free", "held"])
def test_a_session_is_over_at_its_last_moment(session: Session, lives_s: int) -> None:
    end = START + lives_s * SECOND

    assert session.lives_until(TIMINGS) == end
    assert not session.is_over(end - timedelta(microseconds=1), TIMINGS)
    assert session.is_over(end, TIMINGS)
    for refuse in (domain.kept, domain.taken_up):
        with pytest.raises(FailedPrecondition) as caught:
            refuse(session, end, TIMINGS)
        assert caught.value.reason == "SESSION_EXPIRED"


def test_a_sign_of_life_leaves_a_session_with_the_instance_that_lives() -> None:
    assert domain.kept(HELD, START + 14 * SECOND, TIMINGS) is HELD

    taken = domain.kept(HELD, START + 15 * SECOND, TIMINGS)
    assert (taken.instance_id, taken.lease_time) == ("", None)
    assert taken.expire_time == START + 75 * SECOND


def test_a_session_that_was_taken_up_counts_it() -> None:
    taken = domain.taken_up(HELD, START, TIMINGS)

    assert (taken.instance_id, taken.held_time, taken.resume_count) == ("", None, 1)
    assert taken.expire_time == START + 60 * SECOND


def test_a_broken_socket_leaves_time_to_come_back() -> None:
    broken = domain.broken(HELD, START + 100 * SECOND, TIMINGS)

    assert broken.lives_until(TIMINGS) == START + 130 * SECOND
    assert domain.end_of(broken) is End.EXPIRED
    assert domain.end_of(HELD) is End.VANISHED


def test_what_ended_stays_so() -> None:
    ended = domain.ended(HELD, End.CLOSED, START)

    assert ended.is_over(START, TIMINGS)
    assert (ended.instance_id, ended.end_time) == ("", START)
    assert ended.lives_until(TIMINGS) == START


@pytest.mark.parametrize(
    ("session", "subject", "secret"),
    [
        (None, "ann", "secret"),
        (FREE, "bob", "secret"),
        (FREE, "ann", "Secret"),
        (FREE, "ann", ""),
        (replace(FREE, end=End.CLOSED), "ann", "wrong"),
    ],
    ids=["none", "another", "wrong", "empty", "ended"],
)
def test_without_the_secret_there_is_no_such_session(
    session: Session | None, subject: str, secret: str
) -> None:
    with pytest.raises(NotFound) as caught:
        domain.proven(session, subject, secret)

    assert (caught.value.reason, caught.value.message) == (
        "SESSION_NOT_FOUND",
        "there is no such session",
    )
    assert not caught.value.metadata


def test_the_secret_finds_it() -> None:
    assert domain.proven(FREE, "ann", "secret") is FREE


@pytest.mark.parametrize("client", ["", "x" * 100, "Ünï cödé 🙂"])
def test_any_text_names_a_client(client: str) -> None:
    domain.check_client(client)


@pytest.mark.parametrize("client", ["x" * 101, "a\0b", "a\nb", "a\x85b"])
def test_a_client_has_a_name_that_can_be_shown(client: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        domain.check_client(client)

    assert caught.value.violations[0].field == "client"


@pytest.mark.parametrize(("text", "expected"), [("a@b.c", True), ("", False), ("a b", False)])
def test_names_are_what_the_edge_lets_pass(text: str, expected: bool) -> None:
    assert domain.is_name(text) is expected
    assert not domain.is_name("x" * 129)
