"""The Lua filter that makes JSON strict (trap 2), generated from the descriptors."""

from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from .config import Config, extension, typed
from .descriptors import Binding, Descriptors, Rpc

FILTER = "envoy.filters.http.lua"
MESSAGE = "envoy.extensions.filters.http.lua.v3.Lua"
PER_ROUTE = "envoy.extensions.filters.http.lua.v3.LuaPerRoute"
SOURCE = Path(__file__).with_name("strict_json.lua")

FREE = frozenset({"Any", "Struct", "Value", "ListValue"})
"""Well-known types whose JSON has no fixed fields."""
MESSAGES = frozenset({"Empty"})
"""Well-known types that are ordinary objects; the rest are written as one value."""


def lua(descriptors: Descriptors) -> Config:
    """Return the filter; routes turn it on and name their rpc."""
    tables = f"MESSAGES = {{\n{_messages(descriptors)}}}\nRPCS = {{\n{_rpcs(descriptors)}}}\n"
    source = {"inline_string": tables + SOURCE.read_text()}
    return {**extension(FILTER, MESSAGE, default_source_code=source), "disabled": True}


def checked(rpc: Rpc, binding: Binding) -> Config:
    """Return the setting of a route that turns the filter on."""
    return typed(PER_ROUTE, filter_context={"rpc": _key(rpc, binding)})


def _key(rpc: Rpc, binding: Binding) -> str:
    return f"{binding.verb} {binding.template} {rpc.path}"


def _rpcs(descriptors: Descriptors) -> str:
    lines = []
    for rpc in descriptors.public:
        for binding in rpc.bindings:
            # With body "*" nothing is left for the query (google/api/http.proto).
            query = "false" if binding.body == "*" else f'"{rpc.request}"'
            body = f'"{_body(descriptors, rpc, binding)}"' if binding.body else "false"
            by_path = {variable.split(".")[0] for variable in binding.variables}
            elsewhere = by_path | {binding.body} - {"", "*"}
            in_body = _set(by_path if binding.body == "*" else set())
            parts = f"{body}, {query}, {_set(elsewhere)}, {in_body}"
            lines.append(f'["{_key(rpc, binding)}"] = {{{parts}}},\n')
    return "".join(lines)


def _set(names: set[str]) -> str:
    return "{" + ", ".join(f'["{name}"] = true' for name in sorted(names)) + "}"


def _body(descriptors: Descriptors, rpc: Rpc, binding: Binding) -> str:
    """Return the message that the body is."""
    if binding.body == "*":
        return rpc.request
    field = descriptors.message(rpc.request).fields_by_name[binding.body]
    assert field.message_type is not None, "a body is a message"
    return str(field.message_type.full_name)


def _messages(descriptors: Descriptors) -> str:
    roots = (rpc.request for rpc in descriptors.public if rpc.bindings)
    found: dict[str, Descriptor] = {}
    for root in roots:
        _collect(descriptors.message(root), found)
    return "".join(_message(message) for _, message in sorted(found.items()))


def _collect(message: Descriptor, found: dict[str, Descriptor]) -> None:
    if message.full_name in found:
        return
    found[message.full_name] = message
    for field in message.fields:
        inner = _value(field)
        if _kind(inner) == "m":
            assert inner.message_type is not None
            _collect(inner.message_type, found)


def _message(message: Descriptor) -> str:
    keys = "".join(line for field in message.fields for line in _keys(field))
    return f'["{message.full_name}"] = {{\n{keys}}},\n'


def _keys(field: FieldDescriptor) -> Iterator[str]:
    """Yield a line per spelling: JSON allows lowerCamel and the name in the proto."""
    inner = _value(field)
    kind = _kind(inner)
    message = inner.message_type
    name = f'"{message.full_name}"' if message is not None and kind == "m" else "false"
    is_map = inner is not field
    repeated = field.is_repeated and not is_map
    flags = f"{str(repeated).lower()}, {str(is_map).lower()}"
    for key in sorted({field.name, field.json_name}):
        yield f'  ["{key}"] = {{"{field.name}", "{kind}", {name}, {flags}}},\n'


def _value(field: FieldDescriptor) -> FieldDescriptor:
    """Return the field itself, or the value of a map's entry."""
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        return entry.fields_by_name["value"]
    return field


def _kind(field: FieldDescriptor) -> str:
    """Return `m` for an object with known fields, `v` for one value, `a` for anything."""
    message = field.message_type
    if message is None:
        return "v"
    if message.file.package != "google.protobuf" or message.name in MESSAGES:
        return "m"
    return "a" if message.name in FREE else "v"
