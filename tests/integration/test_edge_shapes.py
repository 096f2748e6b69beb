"""Strict JSON for shapes that no request of ours has yet: maps, free values, wrappers.

The service has no process, so a request that passes the check is UNAVAILABLE.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from google.api import annotations_pb2
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)

from tests.integration.test_edge_scene import Edge, edge

IMPORTS = (any_pb2, duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
Field = descriptor_pb2.FieldDescriptorProto


def described() -> bytes:
    """Return a descriptor set with one service, whose request has every shape of field."""
    file = descriptor_pb2.FileDescriptorProto(
        name="interchange/shape/v1/shape_service.proto",
        package="interchange.shape.v1",
        syntax="proto3",
        dependency=[each.DESCRIPTOR.name for each in IMPORTS],
    )
    request = file.message_type.add(name="Request")
    own = ".interchange.shape.v1.Request"
    for name, value in (("LabelsEntry", None), ("ChildrenEntry", own)):
        entry = request.nested_type.add(name=name)
        entry.options.map_entry = True
        add(entry, "key", None)
        add(entry, "value", value)
    add(request, "name", None)
    add(request, "labels", f"{own}.LabelsEntry", repeated=True)
    add(request, "children", f"{own}.ChildrenEntry", repeated=True)
    add(request, "child", own)
    add(request, "names", None, repeated=True)
    for name, kind in (
        ("free", "Struct"),
        ("any", "Any"),
        ("every", "Duration"),
        ("nothing", "Empty"),
        ("count", "Int64Value"),
    ):
        add(request, name, f".google.protobuf.{kind}")
    service = file.service.add(name="ShapeService")
    method = service.method.add(name="Send", input_type=own, output_type=own)
    method.options.Extensions[annotations_pb2.http].post = "/v1/shapes"
    method.options.Extensions[annotations_pb2.http].body = "*"
    inner = service.method.add(name="SendChild", input_type=own, output_type=own)
    inner.options.Extensions[annotations_pb2.http].put = "/v1/shapes/{name}"
    inner.options.Extensions[annotations_pb2.http].body = "child"
    files = descriptor_pb2.FileDescriptorSet()
    for each in IMPORTS:
        each.DESCRIPTOR.CopyToProto(files.file.add())
    files.file.append(file)
    return files.SerializeToString()


def add(
    message: descriptor_pb2.DescriptorProto, name: str, kind: str | None, *, repeated: bool = False
) -> None:
    """Add a field, a string when it has no `kind`."""
    message.field.add(
        name=name,
        json_name=name,
        number=len(message.field) + 1,
        label=Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL,
        type=Field.TYPE_MESSAGE if kind else Field.TYPE_STRING,
        type_name=kind,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    scratch: Path = tmp_path_factory.mktemp("edge")
    descriptors = scratch / "descriptors.binpb"
    descriptors.write_bytes(described())
    async with edge(scratch, descriptors=descriptors, endpoints={}) as running:
        yield running


@pytest.mark.parametrize(
    "body",
    [
        '{"labels": {"any key": "v", "other": "v"}}',
        '{"children": {"a": {"name": "x"}, "b": {"children": {}}}}',
        '{"child": {"child": {"name": "x"}}}',
        '{"names": ["a", "b"], "every": "3s", "nothing": {}, "count": "7"}',
        '{"free": {"a": [1, {"b": null}], "c": {"d": true}}}',
        '{"any": {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1s"}}',
        '{"labels": null, "names": null, "child": null}',
    ],
)
async def test_what_fits_passes(door: Edge, body: str) -> None:
    status, problem = await door.call("POST", "/v1/shapes", data=body)

    assert (status, problem["details"][0]["reason"]) == (503, "UPSTREAM_UNAVAILABLE")


@pytest.mark.parametrize(
    ("body", "reason", "field"),
    [
        ('{"labels": {"a": "1", "a": "2"}}', "DUPLICATE_FIELD", "labels.a"),
        ('{"labels": {"a": {}}}', "WRONG_TYPE", "labels.a"),
        ('{"labels": ["a"]}', "WRONG_TYPE", "labels"),
        ('{"labels": "a"}', "WRONG_TYPE", "labels"),
        ('{"children": {"a": {"nme": "x"}}}', "UNKNOWN_FIELD", "children.a.nme"),
        ('{"child": {"child": {"x": 1}}}', "UNKNOWN_FIELD", "child.child.x"),
        ('{"names": "a"}', "WRONG_TYPE", "names"),
        ('{"names": [["a"]]}', "WRONG_TYPE", "names.0"),
        ('{"free": {"a": {"b": 1, "b": 2}}}', "DUPLICATE_FIELD", "free.a.b"),
        ('{"nothing": {"x": 1}}', "UNKNOWN_FIELD", "nothing.x"),
        ('{"count": {"value": 1}}', "WRONG_TYPE", "count"),
        ('{"every": {"seconds": 1}}', "WRONG_TYPE", "every"),
    ],
)
async def test_what_does_not_fit_is_named(door: Edge, body: str, reason: str, field: str) -> None:
    status, problem = await door.call("POST", "/v1/shapes", data=body)

    info, bad_request = problem["details"]
    assert (status, info["reason"]) == (400, reason)
    assert bad_request["fieldViolations"][0]["field"] == field


async def test_nesting_has_an_end(door: Edge) -> None:
    body = '{"child": ' * 40 + "{}" + "}" * 40

    status, problem = await door.call("POST", "/v1/shapes", data=body)

    assert (status, problem["details"][0]["reason"]) == (400, "MALFORMED_JSON")


@pytest.mark.parametrize(
    ("target", "body", "status"),
    [
        ("/v1/shapes/7", '{"name": "x"}', 503),
        ("/v1/shapes/7?names=a&names=b", '{"name": "x"}', 503),
        ("/v1/shapes/7", '{"child": {"nme": 1}}', 400),
        ("/v1/shapes/7?child.name=y", '{"name": "x"}', 400),
        ("/v1/shapes/7?name=8", "{}", 400),
        ("/v1/shapes/7?labels=a", "{}", 400),
    ],
)
async def test_a_body_may_be_one_field(door: Edge, target: str, body: str, status: int) -> None:
    answered, _ = await door.call("PUT", target, data=body)

    assert answered == status
