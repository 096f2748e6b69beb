"""Every rpc of the mesh, found in the descriptor set: a new one is here without being named."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from interchange.options.v1 import options_pb2

DESCRIPTORS = Path(options_pb2.__file__).parents[2] / "descriptors.binpb"


@dataclass(frozen=True, eq=False)
class Rpc:
    """One rpc: how it is called, and what its options say."""

    name: str
    service: str
    request: type[Message]
    response: type[Message]
    client_streaming: bool
    server_streaming: bool
    permission: str
    safe: bool
    internal: bool
    faces: tuple[tuple[str, str], ...]
    """Verb and template of each REST face."""

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"

    def __str__(self) -> str:
        return self.name


def _read() -> Iterator[Rpc]:
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
    for file in files.file:
        if not file.service:
            continue
        name = file.name.removesuffix(".proto").replace("/", ".") + "_pb2"
        described = importlib.import_module(name).DESCRIPTOR
        for service in described.services_by_name.values():
            yield from (_rpc(method) for method in service.methods)


def _rpc(method: MethodDescriptor) -> Rpc:
    options = method.GetOptions().Extensions
    http: Any = options[annotations_pb2.http]
    rules = [rule for rule in (http, *http.additional_bindings) if rule.WhichOneof("pattern")]
    verbs = [(rule.WhichOneof("pattern"), rule) for rule in rules]
    return Rpc(
        name=method.name,
        service=method.containing_service.full_name,
        request=GetMessageClass(method.input_type),
        response=GetMessageClass(method.output_type),
        client_streaming=method.client_streaming,
        server_streaming=method.server_streaming,
        permission=options[options_pb2.permission],
        safe=options[options_pb2.safe],
        internal=options[options_pb2.internal],
        faces=tuple((verb.upper(), getattr(rule, verb)) for verb, rule in verbs),
    )


_ALL = tuple(_read())
RPCS = tuple(rpc for rpc in _ALL if not rpc.internal)
"""Those that a caller reaches."""
INTERNAL = tuple(rpc for rpc in _ALL if rpc.internal)
"""Those that only services call."""
OF_THE_MOMENT = {"ExplainMatch"}
"""Their answers tell how long somebody has been idle: no two are alike."""
RPC = {rpc.name: rpc for rpc in _ALL}
assert len(RPC) == len(_ALL), "two rpcs share a name"
