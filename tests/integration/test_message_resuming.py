"""Many readers who come at once, on real servers: what is simple is answered for all together."""

import asyncio
from typing import Any
from uuid import uuid4

from interchange.message.v1 import message_service_pb2 as pb

from services.message import resuming
from tests.integration.test_message_scene import (
    AGENT,
    CUSTOMER,
    GATEWAY,
    Talk,
    instance,
    new_id,
    refused,
    settings,
    stub,
    talk,
)

__all__ = ["instance", "settings", "stub", "talk"]


def coming(
    name: str, who: tuple[str, str] = CUSTOMER, after: int = 0, epoch: str = ""
) -> pb.ResumeSubmission:
    subject, role = who
    return pb.ResumeSubmission(
        subject=subject, roles=[role], conversation_id=name, after_sequence=after, epoch=epoch
    )


async def together(talk: Talk, *submissions: pb.ResumeSubmission) -> list[Any]:
    request = pb.SubmitResumesRequest(submissions=submissions)
    results = (await talk("SubmitResumes", request, GATEWAY)).results
    return [one.response if one.HasField("response") else None for one in results]


async def alone(talk: Talk, name: str, who: tuple[str, str] = CUSTOMER, **asked: Any) -> Any:
    request = pb.ResumeMessagesRequest(conversation_id=name, **asked)
    return await talk("ResumeMessages", request, who)


async def test_each_is_told_what_he_would_be_told_alone(talk: Talk) -> None:
    names = [await talk.start("hello") for _ in range(3)]
    for number, name in enumerate(names):
        await talk.send(name, *["x"] * (number + 1))
    await talk.assign(names[2], "ana", 1)
    epoch = (await alone(talk, names[1])).epoch

    found = await together(
        talk,
        coming(names[0]),
        coming(names[1], after=1, epoch=epoch),
        coming(names[1]),
        coming(names[2], AGENT),
    )

    assert found == [
        await alone(talk, names[0]),
        await alone(talk, names[1], after_sequence=1, epoch=epoch),
        await alone(talk, names[1]),
        await alone(talk, names[2], AGENT),
    ]


async def test_what_is_not_simple_is_left_to_a_call_of_its_own(talk: Talk) -> None:
    name, old = await talk.start("hello"), await talk.start("x", conversation_id=new_id(age_s=60))
    other = f"t-{uuid4().hex[:12]}"

    found = await together(
        talk,
        coming(name, ("bob", "customer")),
        coming(name, AGENT),
        coming(name, after=1, epoch=str(uuid4())),
        coming(name, after=99, epoch=(await alone(talk, name)).epoch),
        coming(new_id(age_s=60)),
        coming("no id at all"),
        coming(old),
    )

    assert [one is not None for one in found] == [False] * 6 + [True]
    request = pb.SubmitResumesRequest(submissions=[coming(old)])
    [result] = (
        await Talk(talk.stub, talk.instance, other)("SubmitResumes", request, GATEWAY)
    ).results
    assert not result.HasField("response")


async def test_a_conversation_that_was_just_made_is_awaited(talk: Talk) -> None:
    name = new_id()
    asked = asyncio.create_task(together(talk, coming(name)))
    await asyncio.sleep(0)
    await talk.start("hello", conversation_id=name)

    [found] = await asked

    assert [message.text for message in found.messages] == ["hello"]


async def test_pages_are_short_and_say_that_there_is_more(talk: Talk) -> None:
    long, many = await talk.start(), await talk.start()
    await talk.send(long, *["🎉" * 8_000] * 3)
    for _ in range(2):
        await talk.send(many, *["x"] * 40)

    found = await together(talk, coming(long), coming(many))

    assert [(len(one.messages), one.more) for one in found] == [
        (1, True),
        (resuming.PAGE_SIZE, True),
    ]


async def test_an_answer_fits_into_one_message(talk: Talk) -> None:
    names = [await talk.start() for _ in range(3)]
    for name in names:
        await talk.send(name, "🎉" * 8_000)

    found = await together(talk, *[coming(name) for name in names * 66])

    assert any(found)
    assert not all(found)
    assert sum(one.ByteSize() for one in found if one) < 3 * 1024 * 1024


async def test_too_many_at_once_are_refused(talk: Talk) -> None:
    asked = [coming(new_id(age_s=60))] * 501
    assert await refused(together(talk, *asked)) == ("INVALID_ARGUMENT", "BATCH_SIZE_INVALID")
