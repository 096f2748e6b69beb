"""Frames that are wrong: each is told its reason on the same socket, which goes on."""

import asyncio

import pytest
from picows import WSMsgType

from tests.integration.test_gateway_scene import Mesh, Raw, gateway_over, new_id, token, until

NOBODYS = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


BAD = {
    "no json": (b"hello", "NOT_JSON"),
    "no object": (b"[1]", "NOT_AN_OBJECT"),
    "deep": (b'{"a":' * 5000, "NOT_JSON"),
    "not utf-8": (b'{"type":"ping","ref":"\xff"}', "NOT_JSON"),
    "no type": (b"{}", "MISSING_TYPE"),
    "unknown type": (b'{"type":"dance","ref":"r"}', "UNKNOWN_TYPE"),
    "unknown field": (b'{"type":"ping","colour":"red","ref":"r"}', "UNKNOWN_FIELD"),
    "missing field": (b'{"type":"subscribe","ref":"r"}', "MISSING_FIELD"),
    "no uuid": (b'{"type":"subscribe","conversation_id":"1","ref":"r"}', "INVALID_FIELD"),
    "a uuid and a line break": (
        b'{"type":"subscribe","conversation_id":"%s\\n"}' % NOBODYS.encode(),
        "INVALID_FIELD",
    ),
    "negative": (
        b'{"type":"subscribe","conversation_id":"%s","after_sequence":-1}' % NOBODYS.encode(),
        "INVALID_FIELD",
    ),
    "a second hello": (b'{"type":"hello","ref":"r"}', "ALREADY_GREETED"),
    "mark without subscription": (
        b'{"type":"mark","conversation_id":"%s","read":1,"ref":"r"}' % NOBODYS.encode(),
        "NOT_SUBSCRIBED",
    ),
    "typing without subscription": (
        b'{"type":"typing","conversation_id":"%s","ref":"r"}' % NOBODYS.encode(),
        "NOT_SUBSCRIBED",
    ),
    "unsubscribe without subscription": (
        b'{"type":"unsubscribe","conversation_id":"%s","ref":"r"}' % NOBODYS.encode(),
        "NOT_SUBSCRIBED",
    ),
    "a conversation that is none": (
        b'{"type":"subscribe","conversation_id":"%s","ref":"r"}' % NOBODYS.encode(),
        "CONVERSATION_NOT_FOUND",
    ),
    "another token": (b'{"type":"token","token":"x.y.z","ref":"r"}', "TOKEN_INVALID"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_frame_is_refused_and_the_socket_goes_on(name, mesh, tmp_path):
    payload, reason = BAD[name]
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.greeted(one.url, token())
        raw.bytes(payload)
        error = await raw.next()
        assert (error["type"], error["reason"]) == ("error", reason)
        if b'"ref":"r"' in payload:
            assert error["ref"] == "r"
        raw.say(type="ping", ref="after")
        assert await raw.next() == {"type": "pong", "ref": "after"}


async def test_a_binary_frame_is_refused(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.greeted(one.url, token())
        raw.bytes(b'{"type":"ping"}', WSMsgType.BINARY)
        assert (await raw.next())["reason"] == "NOT_TEXT"


async def test_nothing_is_taken_before_a_hello(mesh, tmp_path):
    talk = mesh.talk()
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.open(one.url)
        raw.say(type="send", conversation_id=talk.conversation_id, client_message_id="1", text="a")
        assert (await raw.next())["reason"] == "NOT_GREETED"
        raw.say(type="hello", token=token())
        assert (await raw.next())["type"] == "welcome"
        assert talk.messages == []


async def test_frames_between_hello_and_welcome_are_refused(mesh, tmp_path):
    mesh.pause["AttachSessions"] = asyncio.Event()
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.open(one.url)
        raw.say(type="hello", token=token())
        raw.say(type="ping")
        assert (await raw.next())["reason"] == "NOT_READY"
        mesh.pause["AttachSessions"].set()
        assert (await raw.next())["type"] == "welcome"


async def test_a_message_in_parts_is_put_together(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.greeted(one.url, token())
        raw.bytes(b'{"type":"pi', fin=False)
        raw.transport.send_ping(b"between")
        raw.bytes(b'ng","ref":', WSMsgType.CONTINUATION, fin=False)
        raw.bytes(b'"parts"}', WSMsgType.CONTINUATION)
        assert await raw.next() == {"type": "pong", "ref": "parts"}


async def test_parts_that_grow_too_large_close_the_socket(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.greeted(one.url, token())
        raw.bytes(b'"' + b"x" * 40_000, fin=False)
        raw.bytes(b"x" * 40_000, WSMsgType.CONTINUATION, fin=False)
        assert (await raw.next())["reason"] == "FRAME_TOO_LARGE"
        assert await raw.end() == (4409, "FRAME_TOO_LARGE")


async def test_parts_of_two_messages_at_once_close_the_socket(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.greeted(one.url, token())
        raw.bytes(b'{"type":', fin=False)
        raw.bytes(b'{"type":"ping"}')
        assert await raw.end() == (1002, "FRAGMENTS_MIXED")


@pytest.mark.parametrize(
    ("size", "ending"), [(100_000, (4409, "FRAME_TOO_LARGE")), (200_000, (1009, None))]
)
async def test_a_frame_that_is_too_large_closes_the_socket(size, ending, mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.greeted(one.url, token())
        raw.say(
            type="send", conversation_id=new_id(), client_message_id="1", text="x" * size, ref="r"
        )
        code, reason = await raw.end()
        assert code == ending[0]
        if ending[1]:
            assert reason == ending[1]
            assert (await raw.next())["reason"] == "FRAME_TOO_LARGE"


async def test_too_many_frames_are_refused_and_then_the_socket_is_closed(mesh, tmp_path):
    async with gateway_over(
        mesh, tmp_path, gateway_frames_per_second=1, gateway_frames_burst=10
    ) as (one, _):
        raw = await Raw.greeted(one.url, token())
        for number in range(100):
            raw.say(type="ping", ref=str(number))
        assert await raw.end() == (4429, "TOO_MANY_FRAMES")
        frames = [await raw.next() for _ in range(59)]
        # The hello was one of the ten.
        assert [each["type"] for each in frames[:9]] == ["pong"] * 9
        assert {each["reason"] for each in frames[9:]} == {"TOO_MANY_FRAMES"}
        assert frames[9]["ref"] == "9"


async def test_nothing_but_garbage_closes_the_socket(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.greeted(one.url, token())
        for _ in range(19):
            raw.bytes(b"?")
        raw.say(type="ping")
        for _ in range(20):
            raw.bytes(b"?")
        assert await raw.end() == (4400, "TOO_MUCH_GARBAGE")


async def test_who_says_nothing_is_closed(mesh, tmp_path):
    async with gateway_over(
        mesh, tmp_path, gateway_hello_timeout_ms=100, gateway_heartbeat_missed_ms=400
    ) as (one, _):
        silent = await Raw.open(one.url)
        assert await silent.end() == (4408, "HELLO_MISSING")
        asleep = await Raw.greeted(one.url, token())
        assert await asleep.end() == (4408, "HEARTBEAT_MISSED")


async def test_a_ping_of_the_protocol_is_a_sign_of_life(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path, gateway_heartbeat_missed_ms=500) as (one, _):
        raw = await Raw.greeted(one.url, token())
        for _ in range(8):
            await asyncio.sleep(0.1)
            raw.transport.send_ping(b"")
        assert not raw.closed.done()


async def test_errors_of_the_services_keep_their_reason(mesh, tmp_path):
    talk, ended = mesh.talk(), mesh.talk()
    ended.ended = True
    foreign = mesh.talk("somebody-else")
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.greeted(one.url, token())

        async def refused(conversation_id: str, **content: object) -> tuple[str, str]:
            raw.say(
                type="send", conversation_id=conversation_id, client_message_id=new_id(), **content
            )
            error = await raw.next("error")
            return error["code"], error["reason"]

        missing = await refused(NOBODYS, text="a")
        assert missing == ("NOT_FOUND", "CONVERSATION_NOT_FOUND")
        assert await refused(foreign.conversation_id, text="a") == missing
        assert (await refused(talk.conversation_id, text=""))[1] == "TEXT_EMPTY"
        assert (await refused(talk.conversation_id))[1] == "TEXT_EMPTY"
        assert (await refused(ended.conversation_id, text="a"))[1] == "CONVERSATION_ENDED"
        both = {"text": "a", "attachment": {"uri": "https://a.example/b"}}
        assert (await refused(talk.conversation_id, **both))[1] == "TWO_CONTENTS"
        raw.say(
            type="send",
            conversation_id=talk.conversation_id,
            client_message_id="e",
            text="\U0001f600",
        )
        assert (await raw.next("sent"))["sequence"] == 1
        raw.say(type="subscribe", conversation_id=foreign.conversation_id, ref="f")
        theirs = await raw.next("error")
        raw.say(type="subscribe", conversation_id=NOBODYS, ref="f")
        assert await raw.next("error") == theirs


async def test_subscriptions_are_bounded(mesh, tmp_path):
    talks = [mesh.talk() for _ in range(3)]
    async with gateway_over(mesh, tmp_path, gateway_subscriptions_max=2) as (one, _):
        raw = await Raw.greeted(one.url, token())
        for talk in talks[:2]:
            raw.say(type="subscribe", conversation_id=talk.conversation_id)
            await raw.next("subscribed")
        raw.say(type="subscribe", conversation_id=talks[2].conversation_id, ref="r")
        assert (await raw.next("error"))["reason"] == "TOO_MANY_SUBSCRIPTIONS"
        raw.say(type="unsubscribe", conversation_id=talks[0].conversation_id)
        assert (await raw.next("unsubscribed"))["reason"] == "REQUESTED"
        raw.say(type="subscribe", conversation_id=talks[2].conversation_id)
        await raw.next("subscribed")


async def test_a_mark_of_what_was_never_sent_is_refused(mesh, tmp_path):
    talk = mesh.talk()
    mesh.say(talk, "one")
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.greeted(one.url, token())
        raw.say(type="subscribe", conversation_id=talk.conversation_id)
        await raw.next("message")
        raw.say(type="mark", conversation_id=talk.conversation_id, read=2, ref="m")
        error = await raw.next("error")
        assert (error["reason"], error["field"], error["ref"]) == ("SEQUENCE_UNKNOWN", "read", "m")
        raw.say(type="mark", conversation_id=talk.conversation_id, read=1, ref="m")
        assert (await raw.next("done"))["ref"] == "m"


async def test_paths_and_requests_that_are_no_sockets(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _):
        for request, status in (
            (b"GET /v1/other HTTP/1.1\r\nHost: a\r\n\r\n", b"404"),
            (b"GET /v1/ws HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
            (b"POST /v1/ws HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
            (b"\x16\x03\x01\r\n\r\n", b"400"),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", one.door.port)
            writer.write(request)
            assert (await asyncio.wait_for(reader.readline(), 5)).split()[1] == status
            writer.close()
        await until(lambda: not one.gateway.sockets)


async def test_a_full_gateway_says_come_back_later(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path, gateway_sockets_max=1) as (one, _):
        await Raw.greeted(one.url, token())
        reader, writer = await asyncio.open_connection("127.0.0.1", one.door.port)
        writer.write(b"GET /v1/ws HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"503" in await asyncio.wait_for(reader.readline(), 5)
        writer.close()
