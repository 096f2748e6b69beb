"""What conversations and bots do becomes messages, whatever order it comes in."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from interchange.message.v1 import message_service_pb2 as pb
from interchange.message.v1.message_events_pb2 import HANDLER_AGENT, HANDLER_BOT, MessageSent

from services.common import kafka
from services.common.config import Settings
from tests.integration.echo import nothing
from tests.integration.test_message_scene import (
    GATEWAY,
    Talk,
    assigned,
    ended,
    handed_off,
    instance,
    new_id,
    refused,
    reopened,
    results,
    settings,
    stub,
    submission,
    talk,
    text_of,
)

__all__ = ["instance", "settings", "stub", "talk"]

QUEUED, JOINED, ENDED, REOPENED = (
    "1:HAND_OFF_REASON_REQUESTED",
    "2:Ana",
    "3:END_REASON_RESOLVED",
    "4:",
)


async def test_every_change_is_a_message_in_one_order(talk: Talk) -> None:
    start = await talk.started(text="hello")
    name = start.conversation_id
    await talk.apply(start, await talk.replied(name, "hi"))
    await talk.send(name, "a person, please")
    await talk.apply(handed_off(name), await talk.replied(name, "one moment"), assigned(name))
    await talk.send(name, "thanks")
    await talk.apply(ended(name), reopened(name))

    assert await talk.said(name) == [
        "ann:hello",
        "default:hi",
        "ann:a person, please",
        QUEUED,
        "default:one moment",
        JOINED,
        "ann:thanks",
        ENDED,
        REOPENED,
    ]
    events = await talk.events(name)
    sent = [event for event in events if isinstance(event, MessageSent)]
    assert [event.sequence for event in sent] == list(range(1, 10))
    assert (sent[0].event_id, sent[0].handler) == (start.message_id, HANDLER_BOT)
    assert [bool(event.sealed_body) for event in sent] == [not e.HasField("system") for e in sent]
    assert (sent[5].system.agent_id, sent[5].handler, sent[5].agent_id) == (
        "ana",
        HANDLER_AGENT,
        "ana",
    )
    assert (await talk.opened(sent[4])).text == "one moment"


async def test_reply_ahead_of_its_conversation_waits_for_the_start(talk: Talk) -> None:
    start = await talk.started(text="hello")
    name = start.conversation_id

    await talk.apply(await talk.replied(name, "1"), await talk.replied(name, "2"))
    assert (await refused(talk("SendMessage", text_of(name, "x"))))[0] == "ABORTED"
    await talk.apply(await talk.replied(name, "3"), start, handed_off(name))

    # The third came in the same batch, and was applied ahead of its start as well.
    assert await talk.said(name) == ["ann:hello", "default:1", "default:2", "default:3", QUEUED]
    await talk.apply(await talk.replied(name, "4"))
    assert (await talk.said(name))[-1] == "default:4"


async def test_reply_in_an_ended_conversation_is_dropped(talk: Talk) -> None:
    name = await talk.start("hello")

    await talk.apply(ended(name), await talk.replied(name, "too late"))

    assert await talk.said(name) == ["ann:hello", ENDED]


async def test_repeated_events_change_nothing(talk: Talk) -> None:
    start = await talk.started(text="hello")
    events = [talk.event(start), talk.event(await talk.replied(start.conversation_id, "hi"))]

    for _ in range(2):
        await talk.instance.applier.apply(events, (), nothing)

    assert await talk.said(start.conversation_id) == ["ann:hello", "default:hi"]
    assert len(await talk.events(start.conversation_id)) == 2


async def test_what_was_said_by_an_erased_customer_is_left_out(talk: Talk) -> None:
    start = await talk.started(text="hello")
    name = start.conversation_id
    async with talk.instance.database.pipeline() as connection:
        with pytest.raises(Exception, match="permission denied"):
            await connection.execute("UPDATE mesh.personal_keys SET wrapped = NULL")
    follower = talk.instance.follower
    real, follower._keys = follower._keys, NoKeys()
    try:
        await talk.apply(start, handed_off(name), await talk.replied(name, "hi"))
    finally:
        follower._keys = real

    assert await talk.said(name) == [QUEUED]


class NoKeys:
    """Keys of which all were destroyed."""

    async def of(self, tenant_id: str, customer_ids: Any) -> dict[str, Any]:
        return {}


async def test_event_that_can_not_be_applied_parks_its_conversation_alone(talk: Talk) -> None:
    bad, good = await talk.started(text="hello"), await talk.started(text="hello")
    bad.sealed_text = b"\x01" + bytes(40)

    await talk.apply(bad, good, handed_off(bad.conversation_id), handed_off(good.conversation_id))

    assert await talk.said(good.conversation_id) == ["ann:hello", QUEUED]
    async with talk.instance.database.pipeline() as connection:
        [row] = await connection.fetch(
            "SELECT key, reason FROM message.parked_keys WHERE tenant_id = $1", talk.tenant
        )
    assert row["key"] == bad.conversation_id
    assert "can't be read" in row["reason"]


async def test_sends_and_events_at_once_share_one_numbering(talk: Talk) -> None:
    """The consumer and the requests number the same conversations at the same time."""
    names = [await talk.start() for _ in range(3)]

    async def send(n: int) -> list[Any]:
        submissions = [submission(name, f"{n}") for name in names]
        request = pb.SubmitMessagesRequest(submissions=submissions)
        return results(await talk("SubmitMessages", request, GATEWAY))

    async def follow() -> None:
        for n in range(20):
            await talk.apply(*[await talk.replied(name, f"bot {n}") for name in names])

    await asyncio.gather(follow(), *(send(n) for n in range(20)))

    for name in names:
        said = await talk.said(name)
        assert len(said) == 40
        assert [one for one in said if one.startswith("default")] == [
            f"default:bot {n}" for n in range(20)
        ]
        sent = [event.sequence for event in await talk.events(name)]  # type: ignore[union-attr]
        assert sent == list(range(1, 41))


async def test_conversation_comes_by_kafka_and_its_messages_leave_by_it(
    talk: Talk, settings: Settings
) -> None:
    start = await talk.started(text="hello")
    name = start.conversation_id
    producer = kafka.producer(settings, "test")
    for message in (start, handed_off(name)):
        event = talk.event(message)
        producer.produce(
            settings.kafka_topic_prefix + event.topic,
            key=f"{event.tenant_id}:{event.key}",
            value=event.payload,
            headers=kafka.headers(event.event_id, event.type, 1, event.sequence, None),
        )
    await asyncio.to_thread(producer.flush, 20)

    async with asyncio.timeout(30):
        while True:
            request = pb.ListTailsRequest(conversation_ids=[name])
            found = (await talk("ListTails", request, GATEWAY)).tails
            if found and found[0].last_sequence == 2:
                break
            await asyncio.sleep(0.05)
    await talk.send(name, "still there?")
    events = await asyncio.to_thread(published, settings, f"{talk.tenant}:{name}", 3)

    assert [event.sequence for event in events] == [1, 2, 3]
    sent = MessageSent.FromString(events[2].payload)
    assert (await talk.opened(sent)).text == "still there?"


def published(settings: Settings, key: str, count: int) -> list[Any]:
    consumer = kafka.consumer(settings, uuid4().hex)
    topic = settings.kafka_topic_prefix + "message-events"
    consumer.subscribe([topic])
    found: list[Any] = []
    for _ in range(300):
        message = consumer.poll(0.1)
        if message is not None and not message.error() and message.key() == key.encode():
            found.append(kafka.read(message, "message-events"))
        if len(found) == count:
            break
    consumer.close()
    return found


async def test_ids_of_conversations_are_those_of_events(talk: Talk) -> None:
    name = new_id()
    assert await talk.start("hello", conversation_id=name) == name
    assert [event.conversation_id for event in await talk.events(name)] == [name]
