"""Who may come in, for how long, and how clients are sent away."""

import asyncio
import os
import time

import pytest

from services.common import errors, tokens
from services.gateway import holdings, sessions
from tests.integration.test_gateway_scene import KEY, Mesh, Raw, gateway_over, token, until


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


def edge_headers(subject: str = "cara", role: str = "customer", ttl_s: int = 3600) -> dict:
    return {
        "X_Interchange_Tenant": "acme",
        "X_Interchange_Subject": subject,
        "X_Interchange_Roles": role,
        "X_Interchange_Expires": str(int(time.time()) + ttl_s),
    }


async def test_a_token_comes_by_the_edge_the_protocol_or_the_first_frame(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _):
        by_edge = await Raw.open(one.url, **edge_headers())
        by_edge.say(type="hello", client="test")
        assert (await by_edge.next("welcome"))["subject"] == "cara"
        protocols = {"Sec_WebSocket_Protocol": f"interchange.v1, bearer.{token('bea')}"}
        by_protocol = await Raw.open(one.url, **protocols)
        assert by_protocol.transport.response.headers["Sec-WebSocket-Protocol"] == "interchange.v1"
        by_protocol.say(type="hello")
        assert (await by_protocol.next("welcome"))["subject"] == "bea"
        by_frame = await Raw.open(one.url)
        assert "Sec-WebSocket-Protocol" not in by_frame.transport.response.headers
        by_frame.say(type="hello", token=token("dan"), ref="h")
        welcome = await by_frame.next("welcome")
        assert (welcome["subject"], welcome["ref"]) == ("dan", "h")


@pytest.mark.parametrize(
    ("bearer", "reason"),
    [
        ("", "TOKEN_MISSING"),
        ("a.b.c", "TOKEN_INVALID"),
        (token(key=tokens.private_key(tokens.new_key())), "TOKEN_INVALID"),
        (tokens.issue(KEY, "acme", ["customer"], "cara", 10, time.time() - 60), "TOKEN_EXPIRED"),
    ],
    ids=["none", "garbage", "of another key", "expired"],
)
async def test_a_bad_token_is_told_and_closes_the_socket(bearer, reason, mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _):
        by_frame = await Raw.open(one.url)
        by_frame.say(type="hello", token=bearer, ref="h")
        error = await by_frame.next()
        assert (error["reason"], error["ref"]) == (reason, "h")
        assert await by_frame.end() == (4401, reason)
        if bearer:
            protocols = {"Sec_WebSocket_Protocol": f"interchange.v1, bearer.{bearer}"}
            by_protocol = await Raw.open(one.url, **protocols)
            assert (await by_protocol.next())["reason"] == reason
            assert await by_protocol.end() == (4401, reason)


async def test_who_may_not_talk_is_sent_away(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.open(one.url)
        raw.say(type="hello", token=token("tom", "trader"))
        assert (await raw.next())["reason"] == "PERMISSION_DENIED"
        assert await raw.end() == (4403, "PERMISSION_DENIED")


async def test_nobody_comes_in_as_a_service(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.open(one.url, **edge_headers(role="mesh"))
        assert await raw.end() == (4401, "CALLER_MALFORMED")


async def test_an_auditor_reads_and_sends_nothing(mesh, tmp_path):
    talk = mesh.talk()
    mesh.say(talk, "one")
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.greeted(one.url, token("udo", "auditor"))
        raw.say(type="subscribe", conversation_id=talk.conversation_id)
        await raw.next("message")
        raw.say(type="send", conversation_id=talk.conversation_id, client_message_id="1", text="a")
        assert (await raw.next("error"))["reason"] == "PERMISSION_DENIED"
        for kind in ("mark", "typing"):
            raw.say(type=kind, conversation_id=talk.conversation_id)
            assert (await raw.next("error"))["reason"] == "NOT_PARTICIPANT"


async def test_a_token_that_runs_out_is_warned_of_and_closes_the_socket(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.open(one.url, **edge_headers(ttl_s=2))
        raw.say(type="hello")
        await raw.next("welcome")
        assert (await raw.next("token_expiring"))["expires_in_ms"] <= 2_000
        assert (await raw.next("error"))["reason"] == "TOKEN_EXPIRED"
        assert await raw.end() == (4401, "TOKEN_EXPIRED")


async def test_a_newer_token_keeps_the_socket_if_it_is_of_the_same_person(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.open(one.url, **edge_headers(ttl_s=2))
        raw.say(type="hello")
        await raw.next("token_expiring")
        for other in (token("bea"), token(tenant="other")):
            raw.say(type="token", token=other, ref="t")
            error = await raw.next()
            assert (error["reason"], error["ref"]) == ("TOKEN_OF_ANOTHER", "t")
        raw.say(type="token", token=token(), ref="t")
        assert await raw.next() == {"type": "done", "ref": "t"}
        await asyncio.sleep(2.2)
        assert not raw.closed.done()


async def test_keys_that_change_are_read_again(mesh, tmp_path):
    other = tokens.private_key(tokens.new_key())
    async with gateway_over(mesh, tmp_path) as (one, settings):
        raw = await Raw.greeted(one.url, token())
        settings.jwks_file.write_text(tokens.key_set(other))
        os.utime(settings.jwks_file, ns=(1, 1))
        one.gateway.verifier._looked_at -= 10
        new = await Raw.greeted(one.url, token(key=other))
        old = await Raw.open(one.url)
        old.say(type="hello", token=token())
        assert (await old.next())["reason"] == "TOKEN_INVALID"
        assert not raw.closed.done()
        assert not new.closed.done()


async def test_a_session_is_resumed_with_its_secret_only(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _):
        first = await Raw.greeted(one.url, token())
        assert first.welcome["resumed"] is False
        mine = {key: first.welcome[key] for key in ("session_id", "secret")}
        first.transport.disconnect(graceful=False)
        await until(lambda: not mesh.sessions[mine["session_id"]].instance_id)
        again = await Raw.greeted(one.url, token(), **mine)
        assert again.welcome["resumed"] is True
        assert again.welcome["session_id"] == mine["session_id"]
        wrong = await Raw.greeted(one.url, token(), **(mine | {"secret": "guess"}))
        assert wrong.welcome["resumed"] is False
        assert wrong.welcome["session_id"] != mine["session_id"]
        assert not again.closed.done()


async def test_of_two_sockets_of_one_session_the_newer_stays(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _):
        first = await Raw.greeted(one.url, token())
        mine = {key: first.welcome[key] for key in ("session_id", "secret")}
        second = await Raw.greeted(one.url, token(), **mine)
        assert await first.end() == (4410, "SESSION_RESUMED_ELSEWHERE")
        second.say(type="ping", ref="p")
        assert (await second.next("pong"))["ref"] == "p"
        assert mesh.sessions[mine["session_id"]].instance_id
        assert mesh.calls["DetachSessions"] == 0


async def test_a_session_that_expired_closes_its_socket(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.greeted(one.url, token())
        mesh.lost[one.gateway.upstream.instance_id].append(raw.welcome["session_id"])
        assert (await raw.next())["reason"] == "SESSION_EXPIRED"
        assert await raw.end() == (4410, "SESSION_EXPIRED")


AWAY = errors.Unavailable("DATABASE_UNAVAILABLE", "away")


async def confirmed(mesh, *raws: Raw, tenant: str = "acme", silence_s: float = 0.0) -> None:
    """Wait until just these are confirmed; from then on what is not named is let go of."""
    named = {each.welcome["session_id"] for each in raws}
    await until(lambda: mesh.confirmed[tenant][-1:] == [named])
    mesh.silence_s = silence_s


async def test_a_departure_that_was_not_told_is_repaired(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path, gateway_confirm_ms=50) as (one, _):
        stays = await Raw.greeted(one.url, token("bea"))
        leaves = await Raw.greeted(one.url, token())
        await confirmed(mesh, stays, leaves)
        mesh.fail["DetachSessions"] = AWAY
        leaves.transport.disconnect(graceful=False)
        await until(lambda: not mesh.sessions[leaves.welcome["session_id"]].instance_id)
        assert mesh.calls["DetachSessions"] == 1
        assert mesh.sessions[stays.welcome["session_id"]].instance_id
        assert not stays.closed.done()


async def test_of_a_tenant_whose_last_socket_left_nothing_stays(mesh, tmp_path, monkeypatch):
    monkeypatch.setattr(holdings, "QUIET_S", 0.4)
    async with gateway_over(mesh, tmp_path, gateway_confirm_ms=50) as (one, _):
        other = await Raw.greeted(one.url, token(tenant="other"))
        last = await Raw.greeted(one.url, token())
        await confirmed(mesh, last, silence_s=0.2)
        mesh.fail["DetachSessions"] = AWAY
        last.transport.disconnect(graceful=False)
        await until(lambda: list(one.gateway.sessions._holdings) == ["other"])
        assert mesh.confirmed["acme"][-1] == set()
        assert not mesh.sessions[last.welcome["session_id"]].instance_id
        theirs = other.welcome["session_id"]
        assert mesh.confirmed["other"][-1] == {theirs}
        assert mesh.sessions[theirs].instance_id
        assert not other.closed.done()


async def test_a_session_whose_opening_was_never_heard_of_is_repaired(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path, gateway_confirm_ms=50) as (one, _):
        mesh.fail["AttachSessions answered"] = AWAY
        refused = await Raw.open(one.url)
        refused.say(type="hello", token=token())
        assert (await refused.end())[0] == 1013
        (orphan,) = mesh.sessions.values()
        assert orphan.instance_id
        del mesh.fail["AttachSessions answered"]
        knows = await Raw.greeted(one.url, token())
        await confirmed(mesh, knows)
        await until(lambda: not orphan.instance_id)
        assert mesh.sessions[knows.welcome["session_id"]].instance_id
        assert not knows.closed.done()


async def test_a_session_that_is_not_confirmed_closes_its_socket(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path, gateway_confirm_ms=50) as (one, _):
        stays = await Raw.greeted(one.url, token("bea"))
        raw = await Raw.greeted(one.url, token())
        del mesh.sessions[raw.welcome["session_id"]]
        assert (await raw.next("error"))["reason"] == "SESSION_EXPIRED"
        assert await raw.end() == (4410, "SESSION_EXPIRED")
        assert not stays.closed.done()


async def test_a_session_attached_during_the_confirmation_survives(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path, gateway_confirm_ms=50) as (one, _):
        first = await Raw.greeted(one.url, token())
        mine = {key: first.welcome[key] for key in ("session_id", "secret")}
        await confirmed(mesh, first, silence_s=60.0)
        asked = mesh.pause["ConfirmSessions"] = asyncio.Event()
        answered = mesh.pause["ConfirmSessions answered"] = asyncio.Event()
        count = mesh.calls["ConfirmSessions"]
        await until(lambda: mesh.calls["ConfirmSessions"] > count)
        first.transport.disconnect(graceful=False)
        await until(lambda: not mesh.sessions[mine["session_id"]].instance_id)
        # It was named, and is away when it is looked for.
        count = mesh.calls["ConfirmSessions answered"]
        asked.set()
        await until(lambda: mesh.calls["ConfirmSessions answered"] > count)
        again = await Raw.greeted(one.url, token(), **mine)
        new = await Raw.greeted(one.url, token("bea"))
        answered.set()
        both = {mine["session_id"], new.welcome["session_id"]}
        await until(lambda: mesh.confirmed["acme"][-1] == both)
        assert again.welcome["resumed"] is True
        assert not again.closed.done()
        assert not new.closed.done()


async def test_a_session_attached_during_a_heartbeat_survives(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _):
        first = await Raw.greeted(one.url, token())
        mine = {key: first.welcome[key] for key in ("session_id", "secret")}
        first.transport.disconnect(graceful=False)
        await until(lambda: not mesh.sessions[mine["session_id"]].instance_id)
        answered = mesh.pause["HeartbeatInstance answered"] = asyncio.Event()
        lost = mesh.lost[one.gateway.upstream.instance_id]
        lost.append(mine["session_id"])
        await until(lambda: one.gateway.upstream.instance_id not in mesh.lost)
        again = await Raw.greeted(one.url, token(), **mine)
        count = mesh.calls["HeartbeatInstance"]
        answered.set()
        await until(lambda: mesh.calls["HeartbeatInstance"] > count)
        assert not again.closed.done()


async def test_a_goodbye_on_its_way_is_not_overtaken_by_a_confirmation(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path, gateway_confirm_ms=50) as (one, _):
        raw = await Raw.greeted(one.url, token())
        await confirmed(mesh, raw)
        left = mesh.pause["DetachSessions"] = asyncio.Event()
        raw.say(type="bye")
        await until(lambda: mesh.calls["DetachSessions"])
        count = len(mesh.confirmed["acme"])
        await until(lambda: len(mesh.confirmed["acme"]) > count + 1)
        left.set()
        await until(lambda: not mesh.sessions)


async def test_more_sessions_than_a_call_takes_are_not_confirmed_in_parts(
    mesh, tmp_path, monkeypatch
):
    monkeypatch.setattr(sessions, "CONFIRMED_MAX", 1)
    async with gateway_over(mesh, tmp_path, gateway_confirm_ms=50) as (one, _):
        raws = [await Raw.greeted(one.url, token()) for _ in range(2)]
        other = await Raw.greeted(one.url, token(tenant="other"))
        await confirmed(mesh, other, tenant="other")
        mesh.confirmed.clear()
        await until(lambda: len(mesh.confirmed["other"]) > 1)
        assert not mesh.confirmed["acme"]
        assert not any(each.closed.done() for each in (*raws, other))
        assert all(each.instance_id for each in mesh.sessions.values())


async def test_a_goodbye_ends_the_session(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.greeted(one.url, token())
        raw.say(type="bye")
        assert await raw.end() == (1000, "BYE")
        await until(lambda: not mesh.sessions)


async def test_without_a_session_service_clients_are_told_to_come_later(mesh, tmp_path):
    mesh.fail["AttachSessions"] = errors.Unavailable("DATABASE_UNAVAILABLE", "away")
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.open(one.url)
        raw.say(type="hello", token=token(), ref="h")
        error = await raw.next()
        assert (error["reason"], error["ref"]) == ("DATABASE_UNAVAILABLE", "h")
        assert (await raw.end())[0] == 1013


async def test_sockets_that_come_together_are_attached_together(mesh, tmp_path):
    mesh.pause["AttachSessions"] = asyncio.Event()
    async with gateway_over(mesh, tmp_path) as (one, _):
        raws = [await Raw.open(one.url) for _ in range(20)]
        for raw in raws:
            raw.say(type="hello", token=token())
        await until(lambda: len(one.gateway.sockets) == 20)
        mesh.pause["AttachSessions"].set()
        for raw in raws:
            await raw.next("welcome")
        assert mesh.calls["AttachSessions"] <= 3


async def test_a_leaving_gateway_sends_clients_away_spread_over_time(mesh, tmp_path):
    talk = mesh.talk()
    async with gateway_over(mesh, tmp_path, gateway_drain_spread_ms=1_000) as (one, _):
        raws = [await Raw.greeted(one.url, token()) for _ in range(20)]
        raws[0].say(type="subscribe", conversation_id=talk.conversation_id)
        await raws[0].next("subscribed")
        gate = mesh.pause["SubmitMessages"] = asyncio.Event()
        raws[0].say(
            type="send", conversation_id=talk.conversation_id, client_message_id="1", text="a"
        )
        await until(lambda: mesh.calls["SubmitMessages"])
        stopping = asyncio.create_task(one.stop())
        closings = [await raw.next("closing") for raw in raws]
        gate.set()
        assert {await raw.end() for raw in raws} == {(1012, "DRAINING")}
        pauses = sorted(each["retry_after_ms"] for each in closings)
        assert pauses[-1] - pauses[0] > 300
        assert pauses[-1] <= 1_000
        await stopping
        # What was taken before was stored, and the sessions wait to be resumed.
        assert [each.text for each in talk.messages] == ["a"]
        assert {each.instance_id for each in mesh.sessions.values()} == {""}
        with pytest.raises(ConnectionRefusedError):
            await Raw.open(one.url)


async def test_nothing_is_left_of_sockets_that_are_gone(mesh, tmp_path):
    talk = mesh.talk()
    async with gateway_over(mesh, tmp_path) as (one, _):
        for _ in range(5):
            raw = await Raw.greeted(one.url, token("ana", "agent"))
            talk.agent_id = "ana"
            raw.say(type="subscribe", conversation_id=talk.conversation_id)
            await raw.next("subscribed")
            raw.transport.disconnect(graceful=False)
        gateway = one.gateway
        await until(lambda: not gateway.sockets)
        await until(lambda: not any(one.pushes.counts.values()))
        assert list(gateway.feeds) == []
        assert gateway.desks._desks == {}
        assert not any(each.named() for each in gateway.sessions._holdings.values())
        assert gateway.wheel._of == {}
