"""The client: it comes back by itself, and its user sees each message once, in order."""

import asyncio
import time
from datetime import UTC, datetime

import pytest

from services.common import errors
from services.gateway.client import (
    Backoff,
    Client,
    Closed,
    Connected,
    Desk,
    Disconnected,
    Message,
    Refused,
    Subscribed,
    Unsubscribed,
)
from services.gateway.client.conversation import Conversation, Verdict
from services.gateway.frames_out import Sender
from tests.integration.test_gateway_scene import (
    Mesh,
    client,
    gateway_over,
    new_id,
    running,
    token,
    until,
)


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


class Listener:
    """Notes what a client hears."""

    def __init__(self, client: Client) -> None:
        self.events = []
        self.task = asyncio.create_task(self._run(client))

    async def _run(self, client: Client) -> None:
        async for event in client:
            self.events.append(event)

    def of(self, kind):
        return [each for each in self.events if isinstance(each, kind)]

    @property
    def texts(self) -> list[str | None]:
        return [each.text for each in self.of(Message)]

    @property
    def sequences(self) -> list[int]:
        return [each.sequence for each in self.of(Message)]


async def test_a_gateway_that_is_killed_loses_and_doubles_nothing(mesh, tmp_path):
    talk = mesh.talk(agent="ana")
    async with gateway_over(mesh, tmp_path) as (one, settings):
        port = one.door.port
        fixed = settings.model_copy(update={"websocket_listen": f"127.0.0.1:{port}"})
        async with client(one) as cara, client(one, "ana", "agent") as ana:
            heard = {name: Listener(each) for name, each in (("cara", cara), ("ana", ana))}
            for each in (cara, ana):
                await each.subscribe(talk.conversation_id)
            session = cara.session_id
            before = [await cara.send(talk.conversation_id, f"before {n}") for n in range(3)]
            assert [each.sequence for each in before] == [1, 2, 3]
            # It is stored, and the gateway dies before it can say so.
            gate = mesh.pause["SubmitMessages answered"] = asyncio.Event()
            last = asyncio.create_task(cara.send(talk.conversation_id, "in flight"))
            await until(lambda: len(talk.messages) == 4)
            await one.kill()
            gate.set()
            mesh.pause.clear()
            waiting = [
                asyncio.create_task(ana.send(talk.conversation_id, f"while away {n}"))
                for n in range(5)
            ]
            mesh.say(talk, "by the bot")
            await asyncio.sleep(0.1)
            again = await running(fixed, mesh)
            assert (await last).sequence == 4
            sent = [await each for each in waiting]
            assert [each.sequence for each in sent] == [6, 7, 8, 9, 10]
            for listener in heard.values():
                await until(lambda listener=listener: len(listener.sequences) >= 10)
                assert listener.sequences == list(range(1, 11))
                assert len(listener.of(Disconnected)) >= 1
                assert all(each.recovered for each in listener.of(Subscribed))
            assert heard["cara"].of(Connected)[-1].resumed
            assert cara.session_id == session
            assert heard["ana"].texts[5:] == [f"while away {n}" for n in range(5)]
            await again.stop()


async def test_connections_that_break_all_the_time_lose_and_double_nothing(mesh, tmp_path):
    talk = mesh.talk(agent="ana")
    count = 0

    def tenth(push) -> bool:
        nonlocal count
        count += 1
        return count % 10 == 0

    mesh.drop = tenth
    mesh.page_max = 7
    async with (
        gateway_over(mesh, tmp_path) as (one, _),
        client(one) as cara,
        client(one, "ana", "agent") as ana,
    ):
        listeners = [Listener(cara), Listener(ana)]
        for each in (cara, ana):
            await each.subscribe(talk.conversation_id)

        async def talkative(each: Client, name: str) -> None:
            for number in range(60):
                await each.send(talk.conversation_id, f"{name} {number}")

        async def breaking() -> None:
            for number in range(12):
                await asyncio.sleep(0.05)
                await (cara, ana)[number % 2].drop()

        await asyncio.gather(talkative(cara, "cara"), talkative(ana, "ana"), breaking())
        for listener in listeners:
            await until(lambda listener=listener: len(listener.sequences) >= 120)
            assert listener.sequences == list(range(1, 121))
            for name in ("cara", "ana"):
                theirs = [text for text in listener.texts if text.startswith(name)]
                assert theirs == [f"{name} {number}" for number in range(60)]


async def test_history_that_is_gone_is_told(mesh, tmp_path):
    talk = mesh.talk()
    for number in range(1, 4):
        mesh.say(talk, str(number))
    async with gateway_over(mesh, tmp_path) as (one, _), client(one) as cara:
        listener = Listener(cara)
        await cara.subscribe(talk.conversation_id)
        await until(lambda: len(listener.sequences) == 3)
        gate = mesh.pause["AttachSessions"] = asyncio.Event()
        await cara.drop()
        for number in range(4, 9):
            mesh.say(talk, str(number))
        talk.forgotten = 6
        gate.set()
        await until(lambda: len(listener.sequences) == 5)
        assert listener.sequences == [1, 2, 3, 7, 8]
        assert [each.recovered for each in listener.of(Subscribed)] == [True, False]


async def test_a_client_that_is_sent_away_comes_back_when_it_was_told_to(mesh, tmp_path):
    talk = mesh.talk()
    async with gateway_over(mesh, tmp_path, gateway_drain_spread_ms=400) as (one, settings):
        fixed = settings.model_copy(update={"websocket_listen": f"127.0.0.1:{one.door.port}"})
        async with client(one) as cara:
            listener = Listener(cara)
            await cara.subscribe(talk.conversation_id)
            stopping = asyncio.create_task(one.stop())
            await until(lambda: listener.of(Disconnected))
            [gone] = listener.of(Disconnected)
            assert (gone.code, gone.reason) == (1012, "DRAINING")
            assert 0 <= gone.retry_in_s <= 0.4
            await stopping
            again = await running(fixed, mesh)
            await until(lambda: len(listener.of(Connected)) == 2)
            await cara.send(talk.conversation_id, "here again")
            await again.stop()


async def test_what_fails_for_a_moment_is_tried_again(mesh, tmp_path):
    talk = mesh.talk()
    mesh.fail["SubmitMessages"] = errors.Unavailable("DATABASE_UNAVAILABLE", "away")
    async with gateway_over(mesh, tmp_path) as (one, _), client(one) as cara:
        await cara.subscribe(talk.conversation_id)
        sends = [asyncio.create_task(cara.send(talk.conversation_id, str(n))) for n in range(3)]
        await until(lambda: mesh.calls["SubmitMessages"])
        mesh.fail.clear()
        assert [(await each).sequence for each in sends] == [1, 2, 3]
        assert [each.text for each in talk.messages] == ["0", "1", "2"]


async def test_a_message_that_is_tried_again_is_not_overtaken(mesh, tmp_path):
    talk, other = mesh.talk(), mesh.talk()
    mesh.refuse_once["first"] = errors.Unavailable("DATABASE_UNAVAILABLE", "away")
    async with gateway_over(mesh, tmp_path) as (one, _), client(one) as cara:
        texts = ("first", "second", "third")
        sends = [asyncio.create_task(cara.send(talk.conversation_id, text)) for text in texts]
        # Those of other conversations don't wait for it.
        await cara.send(other.conversation_id, "elsewhere")
        assert talk.messages == []
        assert [(await each).sequence for each in sends] == [1, 2, 3]
        assert tuple(each.text for each in talk.messages) == texts


async def test_what_is_refused_raises_and_the_next_goes_on(mesh, tmp_path):
    talk = mesh.talk()
    async with gateway_over(mesh, tmp_path) as (one, _), client(one) as cara:
        bad = asyncio.create_task(cara.send(talk.conversation_id, ""))
        good = asyncio.create_task(cara.send(talk.conversation_id, "a"))
        with pytest.raises(Refused) as refused:
            await bad
        assert (refused.value.reason, refused.value.field) == ("TEXT_EMPTY", "text")
        assert (await good).sequence == 1
        with pytest.raises(Refused) as refused:
            await cara.send(talk.conversation_id, "x" * 100_000)
        assert refused.value.reason == "FRAME_TOO_LARGE"
        with pytest.raises(Refused) as refused:
            await cara.subscribe(new_id())
        assert refused.value.reason == "CONVERSATION_NOT_FOUND"
        assert await cara.ping() < 1
        ended = mesh.talk()
        ended.ended = True
        with pytest.raises(Refused, match="CONVERSATION_ENDED"):
            await cara.send(ended.conversation_id, "a")


async def test_a_fast_client_keeps_to_the_pace_that_the_gateway_takes(mesh, tmp_path):
    talks = [mesh.talk() for _ in range(30)]
    async with (
        gateway_over(mesh, tmp_path, gateway_frames_per_second=100, gateway_frames_burst=110) as (
            one,
            _,
        ),
        client(one) as cara,
    ):
        sends = [cara.send(talk.conversation_id, str(n)) for n in range(6) for talk in talks]
        assert len(await asyncio.gather(*sends)) == 180
        assert all([each.text for each in talk.messages] == list("012345") for talk in talks)


async def test_a_slow_user_holds_the_gateway_back(mesh, tmp_path):
    talk = mesh.talk()
    for number in range(5_000):
        mesh.say(talk, f"{number} " + "x" * 500)
    async with gateway_over(mesh, tmp_path) as (one, _), client(one) as cara:
        await cara.subscribe(talk.conversation_id)
        await until(lambda: len(cara._events) >= 1_000)
        await asyncio.sleep(0.2)
        assert len(cara._events) < 2_000
        listener = Listener(cara)
        await until(lambda: len(listener.sequences) == 5_000)
        assert listener.sequences == list(range(1, 5_001))


async def test_an_expiring_token_is_renewed(mesh, tmp_path):
    made = []

    async def provider() -> str:
        made.append(token(ttl_s=2 if not made else 3600))
        return made[-1]

    async with gateway_over(mesh, tmp_path) as (one, _), client(one, token=provider) as cara:
        await until(lambda: len(made) == 2)
        [socket] = one.gateway.sockets
        await until(lambda: socket.expire_s > 10 + time.time())
        assert cara.connected


async def test_a_client_that_may_never_come_in_says_so(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _):
        with pytest.raises(Refused, match="TOKEN_INVALID"):
            async with client(one, token="a.b.c"):
                pass
        with pytest.raises(Refused, match="PERMISSION_DENIED"):
            async with client(one, "tom", "trader"):
                pass


async def test_an_expired_session_is_followed_by_a_new_one(mesh, tmp_path):
    talk = mesh.talk()
    async with gateway_over(mesh, tmp_path) as (one, _), client(one) as cara:
        listener = Listener(cara)
        await cara.subscribe(talk.conversation_id)
        first = cara.session_id
        del mesh.sessions[first]
        mesh.lost[one.gateway.upstream.instance_id].append(first)
        await until(lambda: len(listener.of(Connected)) == 2)
        assert listener.of(Connected)[1].resumed is False
        assert cara.session_id != first
        mesh.say(talk, "still here")
        await until(lambda: listener.texts == ["still here"])


async def test_a_gateway_that_falls_silent_is_left(mesh, tmp_path, monkeypatch):
    monkeypatch.setattr("services.gateway.client.link.SILENCE_S", 0.1)
    async with (
        gateway_over(mesh, tmp_path, gateway_heartbeat_ms=100) as (one, _),
        client(one) as cara,
    ):
        listener = Listener(cara)
        monkeypatch.setattr(one.gateway.conduct, "take", lambda socket, frame: None)
        await until(lambda: listener.of(Disconnected))
        assert listener.of(Disconnected)[0].reason == "NO_PONG"
        monkeypatch.undo()
        await until(lambda: len(listener.of(Connected)) == 2)


async def test_what_was_asked_when_the_client_closes_fails(mesh, tmp_path):
    talk = mesh.talk()
    mesh.pause["SubmitMessages"] = asyncio.Event()
    async with gateway_over(mesh, tmp_path) as (one, _):
        async with client(one) as cara:
            sending = asyncio.create_task(cara.send(talk.conversation_id, "a"))
            await until(lambda: mesh.calls["SubmitMessages"])
        with pytest.raises(Closed):
            await sending
        with pytest.raises(Closed):
            await cara.send(talk.conversation_id, "b")


async def test_two_tenants_with_the_same_names_do_not_meet(mesh, tmp_path):
    async with (
        gateway_over(mesh, tmp_path) as (one, _),
        client(one) as ours,
        client(one, tenant="other") as theirs,
    ):
        here = await ours.start("ours")
        there = await theirs.start("theirs")
        for each, foreign in ((ours, there), (theirs, here)):
            with pytest.raises(Refused, match="CONVERSATION_NOT_FOUND"):
                await each.subscribe(foreign)
            with pytest.raises(Refused, match="CONVERSATION_NOT_FOUND"):
                await each.send(foreign, "hello")


async def test_an_agent_hears_of_his_desk_and_of_what_is_taken_from_him(mesh, tmp_path):
    talk = mesh.talk(agent="ana")
    mesh.show("ana", conversation_ids=[talk.conversation_id])
    async with gateway_over(mesh, tmp_path) as (one, _), client(one, "ana", "agent") as ana:
        listener = Listener(ana)
        await ana.status("online")
        await ana.subscribe(talk.conversation_id)
        ana.typing(talk.conversation_id)
        assert (await ana.presence()).offline == ("cara",)
        await ana.transfer(talk.conversation_id)
        await until(lambda: listener.of(Unsubscribed))
        assert listener.of(Unsubscribed)[0].reason == "NOT_YOURS"
        assert listener.of(Desk)[-1].status == "online"
        # It is not asked for again after a reconnection.
        await ana.drop()
        await until(lambda: len(listener.of(Connected)) == 2)
        mesh.say(talk, "for somebody else")
        await ana.ping()
        assert listener.texts == [None]


async def test_delivery_is_marked_when_the_user_has_the_message(mesh, tmp_path):
    talk = mesh.talk()
    async with gateway_over(mesh, tmp_path) as (one, _), client(one) as cara:
        await cara.subscribe(talk.conversation_id)
        mesh.say(talk, "one")
        await asyncio.sleep(0.3)
        assert talk.marks == {}
        Listener(cara)
        await until(lambda: talk.marks)
        assert talk.marks["cara"].delivered_sequence == 1
        assert talk.marks["cara"].read_sequence == 0


def test_a_conversation_takes_each_message_once_and_in_order():
    def judge(sequence: int) -> Verdict:
        sender = Sender("bot")
        return talk.judge(Message("c", sequence, f"m{sequence}", sender, datetime.now(UTC)))

    talk = Conversation("c", last_sequence=2)
    assert judge(3) is Verdict.REPEATED  # This connection does not follow it yet.
    talk.begin(Subscribed("c", "e", True, 2, 4, "cara", "", False, (), ()))
    assert [judge(n) for n in (2, 3, 3, 5, 4)] == [
        Verdict.REPEATED,
        Verdict.DELIVER,
        Verdict.REPEATED,
        Verdict.HOLE,
        Verdict.DELIVER,
    ]
    talk.begin(Subscribed("c", "f", False, 0, 1, "cara", "", False, (), ()))
    assert judge(1) is Verdict.DELIVER
    assert talk.wish.epoch == "f"


def test_pauses_grow_and_spread():
    backoff = Backoff(first_s=1, most_s=8)
    pauses = [backoff.pause() for _ in range(50)]
    assert all(0.1 <= pause <= 8 for pause in pauses)
    assert max(pauses[:1]) <= 1
    assert len(set(pauses)) == 50
