"""The document of the WebSocket says what the types say."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from services.gateway import codec, document
from services.gateway.frames_in import Send
from services.gateway.frames_out import Sender


def test_the_document_is_what_the_types_say():
    assert document.FILE.read_text() == document.text(), "run python -m services.gateway.document"


def refs(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from refs(value)
    elif isinstance(node, list):
        for each in node:
            yield from refs(each)


def test_every_reference_leads_somewhere():
    whole = document.document()
    found = set(refs(whole))
    assert len(found) > 50
    for ref in found:
        node = whole
        for name in ref.removeprefix("#/").split("/"):
            node = node[name]
        assert node


def test_every_frame_and_field_has_its_words():
    components = document.document()["components"]
    assert all(each["summary"] for each in components["messages"].values())
    send = components["schemas"]["Send"]
    assert send["additionalProperties"] is False
    assert send["properties"]["client_message_id"]["description"]
    assert components["schemas"]["Subscribed"]["properties"]["recovered"]["description"]


def test_frames_of_both_sides_have_names_of_their_own():
    components = document.document()["components"]["messages"]
    assert "SetTyping" in components
    assert "Typing" in components
    assert components["SetTyping"]["name"] == components["Typing"]["name"] == "typing"


def test_yaml_quotes_what_would_be_read_as_something_else():
    lines = list(
        document._yaml({"a": ["yes", 1, True, None, {"b": "c: d"}], "e": {}, "f g": "x"}, 0)
    )
    assert lines == [
        "a:",
        '  - "yes"',
        "  - 1",
        "  - true",
        "  - null",
        '  - b: "c: d"',
        "e: {}",
        '"f g": "x"',
    ]


def test_a_client_ignores_what_is_newer_than_itself():
    assert codec.decode_answer(b'{"type":"applause"}') is None
    newer = b'{"type":"pong","ref":"a","colour":"red"}'
    assert codec.decode_answer(newer).ref == "a"


def test_frames_survive_the_way():
    frame = Send("01890a5d-ac96-774b-bcce-b302099a8057", "1", text="\U0001f600 \u2028", ref="r")
    assert codec.decode(codec.encode(frame)) == frame
    assert msgspec.json.encode(Sender("system")) == b'{"kind":"system"}'


def test_the_client_needs_neither_server_nor_stack():
    code = (
        "import sys, services.gateway.client; "
        "print(*(name for name in ('grpc', 'google.protobuf', 'redis', 'typer', "
        "'services.common', 'services.gateway.gateway', 'services.stack') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
