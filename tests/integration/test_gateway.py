"""What a client sees of the gateway."""

import pytest

from tests.integration.test_gateway_scene import Mesh, Raw, client, gateway_over, token


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


async def test_history_comes_first_and_live_messages_after_it(mesh, tmp_path):
    talk = mesh.talk()
    for number in range(3):
        mesh.say(talk, f"old {number + 1}")
    async with gateway_over(mesh, tmp_path) as (one, _):
        raw = await Raw.greeted(one.url, token())
        raw.say(type="subscribe", conversation_id=talk.conversation_id, ref="s")
        subscribed = await raw.next()
        assert (subscribed["type"], subscribed["ref"]) == ("subscribed", "s")
        assert (subscribed["recovered"], subscribed["last_sequence"]) == (True, 3)
        assert [(await raw.next("message"))["text"] for _ in range(3)] == [
            "old 1",
            "old 2",
            "old 3",
        ]
        mesh.say(talk, "new")
        message = await raw.next("message")
        assert (message["sequence"], message["text"]) == (4, "new")


async def test_two_clients_talk(mesh, tmp_path):
    async with gateway_over(mesh, tmp_path) as (one, _), client(one) as cara:
        conversation_id = await cara.start("hello")
        sent = await cara.send(conversation_id, "are you there?")
        assert sent.sequence == 2
        texts = []
        async for event in cara:
            if hasattr(event, "text"):
                texts.append(event.text)
            if len(texts) == 2:
                break
        assert texts == ["hello", "are you there?"]
