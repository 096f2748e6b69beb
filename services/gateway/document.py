"""Writes `docs/websocket.yaml`: the frames as AsyncAPI 3, from the types that decode them.

python -m services.gateway.document
"""

import ast
import inspect
import itertools
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from services.gateway import fields, frames_in, frames_out
from services.gateway.frames_in import AnyClientFrame
from services.gateway.frames_out import AnyServerFrame

FILE = Path(__file__).resolve().parents[2] / "docs" / "websocket.yaml"
GUIDE = Path(__file__).with_name("guide.md")
HEADER = "# Written by `python -m services.gateway.document`, the guide by hand in its folder.\n"
VERSION = "1.0.0"


def document() -> dict[str, Any]:
    """Return the description of the WebSocket."""
    asked, told = typing.get_args(AnyClientFrame), typing.get_args(AnyServerFrame)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Interchange conversations over WebSocket",
            "version": VERSION,
            "description": GUIDE.read_text(),
        },
        "servers": {
            "local": {
                "host": "127.0.0.1:8080",
                "protocol": "ws",
                "description": "The stack that `interchange up` starts.",
            }
        },
        "channels": {
            "gateway": {
                "address": "/v1/ws",
                "messages": {each.__name__: _ref("messages", each) for each in (*asked, *told)},
            }
        },
        "operations": {
            "ask": _operation("receive", "What clients send.", asked),
            "tell": _operation("send", "What clients are sent.", told),
        },
        "components": {
            "messages": {each.__name__: _message(each) for each in (*asked, *told)},
            "schemas": _schemas(asked, told),
        },
    }


def text() -> str:
    """Return the document as it is in the file."""
    return HEADER + "\n".join(_yaml(document(), 0)) + "\n"


def _ref(kind: str, of: type) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{of.__name__}"}


def _operation(action: str, summary: str, frames: tuple[type, ...]) -> dict[str, Any]:
    names = (each.__name__ for each in frames)
    return {
        "action": action,
        "summary": summary,
        "channel": {"$ref": "#/channels/gateway"},
        "messages": [{"$ref": f"#/channels/gateway/messages/{name}"} for name in names],
    }


def _message(of: type[msgspec.Struct]) -> dict[str, Any]:
    return {
        "name": of.__struct_config__.tag,
        "summary": (of.__doc__ or "").strip(),
        "contentType": "application/json",
        "payload": _ref("schemas", of),
    }


def _schemas(asked: tuple[type, ...], told: tuple[type, ...]) -> dict[str, Any]:
    """Return the JSON schemas of all frames, with the docstrings of their fields."""
    _, components = msgspec.json.schema_components(
        (*asked, *told), ref_template="#/components/schemas/{name}"
    )
    for name, documented in _documented_fields().items():
        for field, description in documented.items():
            components[name]["properties"][field].setdefault("description", description)
    return dict(sorted(components.items()))


def _documented_fields() -> dict[str, dict[str, str]]:
    """Return the docstring below each field, by class and field."""
    found: dict[str, dict[str, str]] = {}
    for module in (fields, frames_in, frames_out):
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.ClassDef):
                for field, below in itertools.pairwise(node.body):
                    if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                        name = ast.unparse(field.target)
                        text = ast.literal_eval(below.value)
                        found.setdefault(node.name, {})[name] = text
    return found


def _yaml(value: Any, depth: int) -> Iterator[str]:
    """Yield the lines of a value in block style; texts are quoted as in JSON, which YAML reads."""
    pad = "  " * depth
    if isinstance(value, dict):
        for key, each in value.items():
            name = key if key.replace("_", "").isalnum() else json.dumps(key)
            yield from _entry(f"{pad}{name}:", each, depth)
    else:
        for each in value:
            lines = list(_yaml(each, depth + 1)) if _nested(each) else [f"{pad}  {_scalar(each)}"]
            yield f"{pad}- {lines[0].strip()}"
            yield from lines[1:]


def _entry(label: str, value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str) and "\n" in value:
        yield f"{label} |"
        for line in value.rstrip("\n").split("\n"):
            yield f"{'  ' * (depth + 1)}{line}".rstrip()
    elif _nested(value):
        yield label
        yield from _yaml(value, depth + 1)
    else:
        yield f"{label} {_scalar(value)}"


def _nested(value: Any) -> bool:
    return isinstance(value, dict | list) and bool(value)


def _scalar(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text())
