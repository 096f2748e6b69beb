"""No hole, nothing twice: whatever pushes do, and wherever a client comes back from."""

import asyncio

import pytest
from interchange.message.v1 import message_pb2

from services.common import errors
from services.gateway.subscription import HELD_MAX
from tests.integration.test_gateway_scene import Mesh, Raw, gateway_over, token, until


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


async def numbers(raw: Raw, count: int) -> list[int]:
    return [(await raw.next("message"))["sequence"] for _ in range(count)]


async def follow(raw: Raw, talk, **place) -> dict:
    raw.say(type="subscribe", conversation_id=talk.conversation_id, **place)
    return await raw.next("subscribed")


async def test_what_is_said_while_history_is_read_follows_it(mesh, tmp_path):
    talk = mesh.talk()
    for _ in range(7):
        mesh.say(talk, "old")
    mesh.page_max = 3
    gate = mesh.pause["ResumeMessages"] = asyncio.Event()
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.greeted(one.url, token())
        raw.say(type="subscribe", conversation_id=talk.conversation_id)
        await until(lambda: mesh.calls["ResumeMessages"])
        for _ in range(5):
            mesh.say(talk, "new")
        gate.set()
        assert (await raw.next("subscribed"))["recovered"] is True
        for _ in range(3):
            mesh.say(talk, "newer")
        assert await numbers(raw, 15) == list(range(1, 16))
        assert raw.frames.empty()


async def test_more_than_is_held_while_history_is_read_is_read_as_well(mesh, tmp_path):
    talk = mesh.talk()
    for _ in range(4):
        mesh.say(talk, "old")
    async with gateway_over(mesh, tmp_path, gateway_tails_ms=60_000) as (one, _):
        first = await Raw.greeted(one.url, token())
        await follow(first, talk)
        assert await numbers(first, 4) == [1, 2, 3, 4]
        # The page of the second reader is long in coming.
        gate = mesh.pause["ResumeMessages answered"] = asyncio.Event()
        late = await Raw.greeted(one.url, token())
        late.say(type="subscribe", conversation_id=talk.conversation_id)
        await until(lambda: mesh.calls["ResumeMessages answered"] == 2)
        for _ in range(HELD_MAX + 200):
            mesh.say(talk, "new")
        await numbers(first, HELD_MAX + 200)
        gate.set()
        count = HELD_MAX + 204
        assert await numbers(late, count) == list(range(1, count + 1))
        mesh.say(talk, "live")
        assert await numbers(late, 1) == [count + 1]


async def test_every_tenth_push_is_lost_and_nothing_is_missing(mesh, tmp_path):
    talk = mesh.talk()
    count = 0

    def tenth(push) -> bool:
        nonlocal count
        count += 1
        return count % 10 == 0

    mesh.drop = tenth
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.greeted(one.url, token())
        await follow(raw, talk)
        for number in range(100):
            mesh.say(talk, str(number))
            if number % 7 == 0:
                await asyncio.sleep(0)
        assert await numbers(raw, 100) == list(range(1, 101))
        assert raw.frames.empty()


async def test_a_lost_last_push_is_found_by_the_watermark(mesh, tmp_path):
    talk = mesh.talk()
    mesh.drop = lambda push: True
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.greeted(one.url, token())
        await follow(raw, talk)
        mesh.say(talk, "said to nobody")
        assert await numbers(raw, 1) == [1]


async def test_pushes_that_overtake_and_repeat_are_put_in_order(mesh, tmp_path):
    talk = mesh.talk()
    held = []
    mesh.drop = lambda push: push.HasField("message") and (held.append(push) or True)
    async with gateway_over(mesh, tmp_path, gateway_tails_ms=60_000) as (one, _):
        raw = await Raw.greeted(one.url, token())
        await follow(raw, talk)
        for number in range(6):
            mesh.say(talk, str(number))
        mesh.drop = lambda push: False
        for index in (2, 1, 1, 0, 5, 0, 4, 3, 5):
            mesh.hand_over(held[index])
        assert await numbers(raw, 6) == [1, 2, 3, 4, 5, 6]
        await asyncio.sleep(0.05)
        assert raw.frames.empty()
        assert mesh.calls["ListMessages"] == 0


async def test_two_readers_of_one_conversation_get_the_same(mesh, tmp_path):
    talk = mesh.talk(agent="ana")
    mesh.say(talk, "before")
    async with gateway_over(mesh, tmp_path) as (one, _):
        cara = await Raw.greeted(one.url, token())
        await follow(cara, talk)
        mesh.drop = lambda push: push.HasField("message") and push.message.sequence == 3
        for number in range(3):
            mesh.say(talk, str(number))
        ana = await Raw.greeted(one.url, token("ana", "agent"))
        await follow(ana, talk, after_sequence=1, epoch="e1")
        mesh.say(talk, "after")
        assert await numbers(cara, 5) == [1, 2, 3, 4, 5]
        assert await numbers(ana, 4) == [2, 3, 4, 5]


async def test_who_comes_back_gets_what_he_missed(mesh, tmp_path):
    talk = mesh.talk()
    for number in range(1, 6):
        mesh.say(talk, str(number))
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.greeted(one.url, token())
        subscribed = await follow(raw, talk, after_sequence=3, epoch="e1")
        assert (subscribed["recovered"], subscribed["after_sequence"]) == (True, 3)
        assert await numbers(raw, 2) == [4, 5]


@pytest.mark.parametrize(
    "place",
    [
        {"after_sequence": 3, "epoch": "another"},
        {"after_sequence": 3_000, "epoch": "e1"},
        {"after_sequence": 2, "epoch": "e1"},
    ],
    ids=["another epoch", "from the future", "history is gone"],
)
async def test_who_can_not_go_on_is_told_so(place, mesh, tmp_path):
    talk = mesh.talk()
    for number in range(1, 9):
        mesh.say(talk, str(number))
    talk.forgotten = 4
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.greeted(one.url, token())
        subscribed = await follow(raw, talk, **place)
        assert (subscribed["recovered"], subscribed["after_sequence"]) == (False, 4)
        assert await numbers(raw, 4) == [5, 6, 7, 8]
        mesh.say(talk, "next")
        assert await numbers(raw, 1) == [9]


async def test_a_number_of_another_conversation_leads_nowhere_else(mesh, tmp_path):
    long, short = mesh.talk(), mesh.talk()
    short.epoch = "e2"
    for number in range(1, 9):
        mesh.say(long, str(number))
    mesh.say(short, "only")
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.greeted(one.url, token())
        subscribed = await follow(raw, short, after_sequence=8, epoch="e1")
        assert subscribed["recovered"] is False
        message = await raw.next("message")
        assert (message["conversation_id"], message["text"]) == (short.conversation_id, "only")


async def test_history_that_vanishes_between_two_pages_is_told(mesh, tmp_path):
    talk = mesh.talk()
    for number in range(1, 11):
        mesh.say(talk, str(number))
    mesh.page_max = 2
    async with gateway_over(mesh, tmp_path, gateway_tails_ms=60_000) as (one, _):
        raw = await Raw.greeted(one.url, token())
        await follow(raw, talk)
        talk.forgotten = 8
        told = await raw.next("subscribed")
        assert (told["recovered"], told["after_sequence"]) == (False, 8)
        assert await numbers(raw, 2) == [9, 10]


async def test_numbers_that_begin_anew_are_told_to_all_readers(mesh, tmp_path):
    talk = mesh.talk(agent="ana")
    for number in range(1, 4):
        mesh.say(talk, str(number))
    async with gateway_over(mesh, tmp_path, gateway_tails_ms=60_000) as (one, _):
        ana = await Raw.greeted(one.url, token("ana", "agent"))
        await follow(ana, talk)
        assert await numbers(ana, 3) == [1, 2, 3]
        talk.epoch, talk.messages = "e2", talk.messages[:1]
        cara = await Raw.greeted(one.url, token())
        assert (await follow(cara, talk, after_sequence=3, epoch="e1"))["recovered"] is False
        assert await numbers(cara, 1) == [1]
        assert (await ana.next("unsubscribed"))["reason"] == "EPOCH_CHANGED"
        mesh.say(talk, "anew")
        assert await numbers(cara, 1) == [2]


async def test_two_tenants_with_the_same_ids_hear_nothing_of_each_other(mesh, tmp_path):
    here = mesh.talk()
    there = mesh.talk(tenant="other")
    del mesh.talks["other", there.conversation_id]
    there.conversation_id = here.conversation_id
    mesh.talks["other", here.conversation_id] = there
    async with gateway_over(mesh, tmp_path) as (one, _):
        ours = await Raw.greeted(one.url, token())
        theirs = await Raw.greeted(one.url, token(tenant="other"))
        for raw in (ours, theirs):
            await follow(raw, here)
        mesh.say(here, "ours")
        mesh.say(there, "theirs", tenant="other")
        assert (await ours.next("message"))["text"] == "ours"
        assert (await theirs.next("message"))["text"] == "theirs"
        ours.say(type="typing", conversation_id=here.conversation_id)
        ours.say(type="mark", conversation_id=here.conversation_id, read=1)
        assert (await ours.next("marks"))["marks"][0]["read"] == 1
        assert there.marks == {}
        assert theirs.frames.empty()


async def test_an_agent_reads_no_longer_once_it_is_opened_again(mesh, tmp_path):
    """Who answered last sees how it ended, not how it goes on without him."""
    talk = mesh.talk(agent="ana")
    async with gateway_over(mesh, tmp_path, gateway_tails_ms=60_000) as (one, _):
        ana = await Raw.greeted(one.url, token("ana", "agent"))
        await follow(ana, talk)
        talk.agent_id = ""
        reopened = message_pb2.SystemNote(kind=message_pb2.SYSTEM_KIND_REOPENED)
        mesh.say(talk, system=reopened)
        mesh.say(talk, "for the bot", sender="cara", kind=message_pb2.SENDER_KIND_CUSTOMER)
        assert (await ana.next("message"))["system"]["kind"] == "reopened"
        frame = await ana.next()
        assert (frame["type"], frame["reason"]) == ("unsubscribed", "NOT_YOURS")


async def test_an_agent_who_handed_on_reads_no_longer(mesh, tmp_path):
    talk = mesh.talk(agent="ana")
    async with gateway_over(mesh, tmp_path, gateway_tails_ms=60_000) as (one, _):
        ana = await Raw.greeted(one.url, token("ana", "agent"))
        boss = await Raw.greeted(one.url, token("boss", "supervisor"))
        cara = await Raw.greeted(one.url, token())
        for raw in (ana, boss, cara):
            await follow(raw, talk)
        mesh.hand_to(talk, "bob")
        mesh.say(talk, "for bob", sender="cara", kind=message_pb2.SENDER_KIND_CUSTOMER)
        assert (await ana.next("message"))["system"]["kind"] == "agent_joined"
        # At once, and not when the next watermark is due: what came after was held back.
        frame = await ana.next()
        assert (frame["type"], frame["reason"]) == ("unsubscribed", "NOT_YOURS")
        assert await numbers(cara, 2) == [1, 2]
        assert await numbers(boss, 2) == [1, 2]
        ana.say(type="subscribe", conversation_id=talk.conversation_id)
        assert (await ana.next("error"))["reason"] == "CONVERSATION_NOT_FOUND"


async def test_an_agent_who_keeps_it_misses_nothing_of_what_was_held(mesh, tmp_path):
    talk = mesh.talk(agent="ana")
    gate = mesh.pause["ListTails"] = asyncio.Event()
    async with gateway_over(mesh, tmp_path, gateway_tails_ms=60_000) as (one, _):
        ana = await Raw.greeted(one.url, token("ana", "agent"))
        await follow(ana, talk)
        mesh.hand_to(talk, "ana")
        for number in range(3):
            mesh.say(talk, str(number))
        assert await numbers(ana, 1) == [1]
        await until(lambda: mesh.calls["ListTails"])
        gate.set()
        assert await numbers(ana, 3) == [2, 3, 4]
        mesh.say(talk, "live")
        assert await numbers(ana, 1) == [5]


async def test_marks_whose_pushes_are_lost_are_read(mesh, tmp_path):
    talk = mesh.talk(agent="ana")
    mesh.say(talk, "one")
    async with gateway_over(mesh, tmp_path) as (one, _):
        cara = await Raw.greeted(one.url, token())
        await follow(cara, talk)
        ana = await Raw.greeted(one.url, token("ana", "agent"))
        await follow(ana, talk)
        mesh.drop = lambda push: push.HasField("mark")
        ana.say(type="mark", conversation_id=talk.conversation_id, read=1)
        mark = (await cara.next("marks"))["marks"][0]
        assert mark == {"reader": {"kind": "agent", "id": "ana"}, "delivered": 1, "read": 1}


async def test_a_read_that_fails_is_told_and_the_next_one_works(mesh, tmp_path):
    talk = mesh.talk()
    mesh.say(talk, "one")
    mesh.fail["ResumeMessages"] = errors.Unavailable("CONVERSATION_NOT_YET_KNOWN", "wait")
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.greeted(one.url, token())
        raw.say(type="subscribe", conversation_id=talk.conversation_id, ref="s")
        error = await raw.next("error")
        assert (error["reason"], error["ref"]) == ("CONVERSATION_NOT_YET_KNOWN", "s")
        assert not one.gateway.feeds.get("acme", talk.conversation_id)
        mesh.fail.clear()
        await follow(raw, talk)
        assert await numbers(raw, 1) == [1]


async def test_a_slow_reader_is_cut_off_and_nobody_else_is(mesh, tmp_path):
    talk = mesh.talk(agent="ana")
    async with gateway_over(
        mesh, tmp_path, gateway_tails_ms=60_000, gateway_write_buffer_bytes_max=512 * 1024
    ) as (one, _):
        slow = await Raw.greeted(one.url, token())
        quick = await Raw.greeted(one.url, token("ana", "agent"))
        for raw in (slow, quick):
            await follow(raw, talk)
        slow.transport.underlying_transport.pause_reading()
        [held] = [each for each in one.gateway.sockets if each.caller.subject == "cara"]
        said = 0
        while not held.closed:
            mesh.say(talk, "x" * 8000)
            said += 1
            await asyncio.sleep(0)
            assert said < 5000
        waiting = held._transport.underlying_transport.get_write_buffer_size()
        assert waiting < 600 * 1024
        assert await numbers(quick, said) == list(range(1, said + 1))
        slow.transport.underlying_transport.resume_reading()
        assert await slow.end() == (4408, "SLOW_READER")


async def test_a_long_history_waits_for_its_reader(mesh, tmp_path):
    talk = mesh.talk()
    for _ in range(1_500):
        mesh.say(talk, "x" * 4000)
    async with gateway_over(
        mesh, tmp_path, gateway_tails_ms=60_000, gateway_write_buffer_bytes_max=512 * 1024
    ) as (one, _):
        raw = await Raw.greeted(one.url, token())
        raw.transport.underlying_transport.pause_reading()
        raw.say(type="subscribe", conversation_id=talk.conversation_id)
        [socket] = one.gateway.sockets
        await until(lambda: socket._room is not None)
        mesh.say(talk, "live")
        await asyncio.sleep(0.1)
        assert not socket.closed
        raw.transport.underlying_transport.resume_reading()
        assert await numbers(raw, 1_501) == list(range(1, 1_502))


async def test_a_watermark_asked_before_a_hand_over_lets_nobody_read_after_it(mesh, tmp_path):
    talk = mesh.talk(agent="ana")
    gate = mesh.pause["ListTails answered"] = asyncio.Event()
    async with gateway_over(mesh, tmp_path) as (one, _):
        ana = await Raw.greeted(one.url, token("ana", "agent"))
        await follow(ana, talk)
        # The answer that she may read is on its way when it ceases to be true.
        await until(lambda: mesh.calls["ListTails answered"])
        mesh.hand_to(talk, "bob")
        mesh.say(talk, "for bob only")
        assert (await ana.next("message"))["system"]["agent_id"] == "bob"
        del mesh.pause["ListTails answered"]
        gate.set()
        frame = await ana.next()
        assert (frame["type"], frame["reason"]) == ("unsubscribed", "NOT_YOURS")


async def test_an_older_watermark_does_not_send_a_new_agent_away(mesh, tmp_path):
    talk = mesh.talk()
    mesh.say(talk, "one")
    async with gateway_over(mesh, tmp_path) as (one, _):
        cara = await Raw.greeted(one.url, token())
        await follow(cara, talk)
        # Asked while nobody answers the conversation, told after ana was let in.
        gate = mesh.pause["ListTails answered"] = asyncio.Event()
        asked = mesh.calls["ListTails answered"]
        await until(lambda: mesh.calls["ListTails answered"] > asked)
        mesh.drop = lambda push: True
        mesh.hand_to(talk, "ana")
        ana = await Raw.greeted(one.url, token("ana", "agent"))
        await follow(ana, talk)
        del mesh.pause["ListTails answered"]
        gate.set()
        asked = mesh.calls["ListTails answered"]
        await until(lambda: mesh.calls["ListTails answered"] >= asked + 2)
        mesh.drop = lambda push: False
        mesh.say(talk, "for ana")
        assert await numbers(ana, 3) == [1, 2, 3]
