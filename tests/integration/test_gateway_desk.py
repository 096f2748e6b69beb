"""Agents at work, and who is there."""

import asyncio

import pytest
from interchange.agent.v1 import agent_pb2

from services.common import errors
from tests.integration.test_gateway_scene import Mesh, Raw, gateway_over, new_id, token, until

ONLINE = agent_pb2.AGENT_STATUS_ONLINE


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


def offer(talk) -> agent_pb2.Offer:
    made = agent_pb2.Offer(
        offer_id=new_id(), agent_id="ana", conversation_id=talk.conversation_id, customer_id="cara"
    )
    made.expire_time.GetCurrentTime()
    return made


async def test_an_agent_is_shown_his_desk_and_works_at_it(mesh, tmp_path):
    talk = mesh.talk()
    mesh.show("ana")
    async with gateway_over(mesh, tmp_path) as (one, _):
        ana = await Raw.greeted(one.url, token("ana", "agent"))
        assert (await ana.next("desk"))["status"] == "offline"
        ana.say(type="status", status="online", ref="s")
        assert (await ana.next("done"))["ref"] == "s"
        made = offer(talk)
        mesh.show("ana", status=ONLINE, offers=[made])
        desk = await ana.next("desk")
        while not desk["offers"]:
            desk = await ana.next("desk")
        assert desk["offers"][0]["offer_id"] == made.offer_id
        assert desk["offers"][0]["customer_id"] == "cara"
        ana.say(type="accept", offer_id=made.offer_id, ref="a")
        taken = await ana.next("desk")
        assert taken["conversation_ids"] == [talk.conversation_id]
        assert (await ana.next("done"))["ref"] == "a"
        ana.say(type="accept", offer_id=made.offer_id, ref="b")
        error = await ana.next("error")
        assert (error["reason"], error["ref"]) == ("OFFER_EXPIRED", "b")


async def test_a_desk_that_no_push_brings_is_found(mesh, tmp_path):
    mesh.drop = lambda push: push.HasField("desk")
    async with gateway_over(mesh, tmp_path) as (one, _):
        ana = await Raw.greeted(one.url, token("ana", "agent"))
        mesh.show("ana", status=ONLINE)
        assert (await ana.next("desk"))["status"] == "online"
        twin = await Raw.greeted(one.url, token("ana", "agent"))
        assert (await twin.next("desk"))["version"] == 1


async def test_an_older_desk_is_not_shown(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _):
        ana = await Raw.greeted(one.url, token("ana", "agent"))
        old = mesh.show("ana")
        mesh.show("ana", status=ONLINE)
        while (await ana.next("desk"))["version"] != 2:
            pass
        mesh.push("acme", subject="ana", desk=old)
        ana.say(type="ping")
        assert (await ana.next())["type"] == "pong"


async def test_a_customer_has_no_desk(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _):
        cara = await Raw.greeted(one.url, token())
        for frame in (
            {"type": "status", "status": "online"},
            {"type": "accept", "offer_id": new_id()},
        ):
            cara.say(**frame, ref="r")
            error = await cara.next("error")
            assert (error["code"], error["reason"]) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
        assert mesh.calls["ListDesks"] == 0


async def test_conversations_are_handed_on_and_ended(mesh, tmp_path):
    talk = mesh.talk(agent="ana")
    async with gateway_over(mesh, tmp_path) as (one, _):
        ana = await Raw.greeted(one.url, token("ana", "agent"))
        cara = await Raw.greeted(one.url, token())
        for raw in (ana, cara):
            raw.say(type="subscribe", conversation_id=talk.conversation_id)
            await raw.next("subscribed")
        ana.say(
            type="transfer",
            conversation_id=talk.conversation_id,
            needs={"preferred_agent_id": "bob", "required_skills": [{"name": "lang:en"}]},
            ref="t",
        )
        assert (await ana.next("done"))["ref"] == "t"
        assert (await cara.next("message"))["system"]["agent_id"] == "bob"
        assert (await ana.next("unsubscribed"))["reason"] == "NOT_YOURS"
        cara.say(type="hand_off", conversation_id=talk.conversation_id, ref="h")
        assert (await cara.next("message"))["system"]["kind"] == "queued"
        cara.say(type="end", conversation_id=talk.conversation_id, ref="e")
        assert (await cara.next("message"))["system"]["kind"] == "ended"
        ana.say(type="end", conversation_id=talk.conversation_id, ref="e")
        assert (await ana.next("error"))["reason"] == "CONVERSATION_NOT_FOUND"


async def test_who_types_is_told_to_the_other_side_and_not_too_often(mesh, tmp_path):
    talk = mesh.talk(agent="ana")
    async with gateway_over(mesh, tmp_path) as (one, _):
        ana = await Raw.greeted(one.url, token("ana", "agent"))
        cara = await Raw.greeted(one.url, token())
        for raw in (ana, cara):
            raw.say(type="subscribe", conversation_id=talk.conversation_id)
            await raw.next("subscribed")
        for typing in (True, True, True, False):
            ana.say(type="typing", conversation_id=talk.conversation_id, typing=typing)
        heard = [await cara.next("typing") for _ in range(2)]
        assert [each["typing"] for each in heard] == [True, False]
        assert heard[0]["sender"] == {"kind": "agent", "id": "ana"}
        cara.say(type="ping")
        assert (await cara.next())["type"] == "pong"


async def test_marks_of_a_moment_are_one(mesh, tmp_path):
    talk = mesh.talk(agent="ana")
    for number in range(50):
        mesh.say(talk, str(number))
    async with gateway_over(mesh, tmp_path, gateway_marks_flush_ms=100) as (one, _):
        cara = await Raw.greeted(one.url, token())
        cara.say(type="subscribe", conversation_id=talk.conversation_id)
        for _ in range(50):
            await cara.next("message")
        for number in range(1, 51):
            cara.say(type="mark", conversation_id=talk.conversation_id, delivered=number)
        cara.say(type="mark", conversation_id=talk.conversation_id, read=20)
        mark = (await cara.next("marks"))["marks"][0]
        assert (mark["delivered"], mark["read"]) == (50, 20)
        assert mesh.calls["SubmitMarks"] == 1


async def test_who_is_there_is_told_and_who_went(mesh, tmp_path):
    talk = mesh.talk(agent="ana")
    async with gateway_over(mesh, tmp_path) as (one, _):
        cara = await Raw.greeted(one.url, token())
        cara.say(type="subscribe", conversation_id=talk.conversation_id)
        assert (await cara.next("subscribed"))["online"] == ["cara"]
        ana = await Raw.greeted(one.url, token("ana", "agent"))
        ana.say(type="subscribe", conversation_id=talk.conversation_id)
        assert sorted((await ana.next("subscribed"))["online"]) == ["ana", "cara"]
        assert (await cara.next("presence"))["online"] == ["ana"]
        cara.say(type="presence", subjects=["ana", "spy", "cara"], ref="p")
        # Of others than those he talks with he learns nothing.
        answer = await cara.next("presence")
        assert (answer["online"], answer.get("offline"), answer["ref"]) == (["ana"], None, "p")
        ana.say(type="bye")
        assert (await cara.next("presence"))["offline"] == ["ana"]


async def test_a_start_is_answered_with_its_conversation(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _):
        cara = await Raw.greeted(one.url, token())
        cara.say(type="start", text="hello", channel="mobile", name="Cara", ref="s")
        started = await cara.next("started")
        assert (started["ref"], started["status"]) == ("s", "with_bot")
        assert ("acme", started["conversation_id"]) in mesh.talks
        mesh.refuse_once["long"] = errors.InvalidArgument.of("text", "TEXT_TOO_LONG", "long")
        cara.say(type="start", text="long", ref="t")
        error = await cara.next("error")
        assert (error["reason"], error["field"]) == ("TEXT_TOO_LONG", "text")


async def test_messages_of_many_are_sent_together_and_each_in_order(mesh, tmp_path):
    talks = [mesh.talk(f"c{number}") for number in range(10)]
    gate = mesh.pause["SubmitMessages"] = asyncio.Event()
    async with gateway_over(mesh, tmp_path) as (one, _):
        raws = [await Raw.greeted(one.url, token(f"c{number}")) for number in range(10)]
        for number in range(5):
            for raw, talk in zip(raws, talks, strict=True):
                raw.say(
                    type="send",
                    conversation_id=talk.conversation_id,
                    client_message_id=str(number),
                    text=str(number),
                    ref=str(number),
                )
        await until(lambda: mesh.calls["SubmitMessages"])
        gate.set()
        for raw in raws:
            sent = [await raw.next("sent") for _ in range(5)]
            assert [each["ref"] for each in sent] == list("01234")
            assert [each["sequence"] for each in sent] == [1, 2, 3, 4, 5]
        assert sum(mesh.batches) == 50
        assert len(mesh.batches) < 10
        for talk in talks:
            assert [each.text for each in talk.messages] == list("01234")


async def test_a_conversation_on_the_desk_is_awaited_until_all_know_of_it(mesh, tmp_path):
    talk = mesh.talk()
    mesh.say(talk, "one")
    async with gateway_over(mesh, tmp_path) as (one, _):
        ana = await Raw.greeted(one.url, token("ana", "agent"))
        mesh.show("ana", conversation_ids=[talk.conversation_id])
        await ana.next("desk")
        ana.say(type="subscribe", conversation_id=talk.conversation_id)
        await until(lambda: mesh.calls["ResumeMessages"] >= 2)
        assert ana.frames.empty()
        talk.agent_id = "ana"
        assert (await ana.next())["type"] == "subscribed"
