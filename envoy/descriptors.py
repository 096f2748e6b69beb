"""The rpcs of the mesh, read from the descriptor set."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor
from google.rpc import error_details_pb2
from interchange.options.v1 import options_pb2

PACKAGE = re.compile(r"interchange\.(?P<name>\w+)\.v\d+")


@dataclass(frozen=True, slots=True)
class Binding:
    """One google.api.http rule of an rpc."""

    verb: str
    """GET, POST, PUT, PATCH or DELETE."""
    template: str
    """Path with its variables in braces."""
    body: str
    """Field that the body fills, `*` for the whole request, empty for none."""

    @property
    def variables(self) -> tuple[str, ...]:
        """Fields that the path fills."""
        return tuple(re.findall(r"{([\w.]+)", self.template))


@dataclass(frozen=True, slots=True)
class Rpc:
    """One method of a service, as routing sees it."""

    cluster: str
    """Short name of the service: `trade` of `interchange.trade.v1`."""
    service: str
    """Full name of the service."""
    method: str
    """Name of the method."""
    request: str
    """Full name of the request message."""
    streaming: bool
    """True when either side streams."""
    safe: bool
    """True when Envoy may repeat the call."""
    internal: bool
    """True when only services call it: the edge must not know it."""
    bindings: tuple[Binding, ...]
    """Its REST faces."""

    @property
    def path(self) -> str:
        """The path of the gRPC call."""
        return f"/{self.service}/{self.method}"


class Descriptors:
    """A descriptor set: its rpcs, its messages and its bytes for the transcoder."""

    def __init__(self, serialized: bytes) -> None:
        files = descriptor_pb2.FileDescriptorSet.FromString(serialized)
        _add_error_details(files)
        for file in files.file:
            file.ClearField("source_code_info")
        self.serialized = files.SerializeToString(deterministic=True)
        self.rpcs = tuple(_rpcs(files))
        self._pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            self._pool.Add(file)

    @classmethod
    def read(cls, path: Path) -> "Descriptors":
        """Read the set that `protoc --include_imports` wrote."""
        return cls(path.read_bytes())

    @property
    def public(self) -> tuple[Rpc, ...]:
        """The rpcs that callers from outside may know."""
        return tuple(rpc for rpc in self.rpcs if not rpc.internal)

    @property
    def services(self) -> tuple[str, ...]:
        """Full names of the services, sorted."""
        return tuple(sorted({rpc.service for rpc in self.rpcs}))

    @property
    def clusters(self) -> tuple[str, ...]:
        """Short names of the services, sorted."""
        return tuple(sorted({rpc.cluster for rpc in self.rpcs}))

    def message(self, name: str) -> Descriptor:
        """Return a message by its full name."""
        return self._pool.FindMessageTypeByName(name)


def _add_error_details(files: descriptor_pb2.FileDescriptorSet) -> None:
    """Add the messages of error details: the transcoder prints only what it knows."""
    known = {file.name for file in files.file}
    if error_details_pb2.DESCRIPTOR.name not in known:
        error_details_pb2.DESCRIPTOR.CopyToProto(files.file.add())


def _rpcs(files: descriptor_pb2.FileDescriptorSet) -> Iterator[Rpc]:
    for file in files.file:
        package = PACKAGE.fullmatch(file.package)
        if package is None:
            continue
        for service in file.service:
            for method in service.method:
                yield Rpc(
                    cluster=package["name"],
                    service=f"{file.package}.{service.name}",
                    method=method.name,
                    request=method.input_type.removeprefix("."),
                    streaming=method.client_streaming or method.server_streaming,
                    safe=method.options.Extensions[options_pb2.safe],
                    internal=method.options.Extensions[options_pb2.internal],
                    bindings=tuple(_bindings(method.options)),
                )


def _bindings(options: descriptor_pb2.MethodOptions) -> Iterator[Binding]:
    http: Any = annotations_pb2.http  # its stubs know no extensions
    if not options.HasExtension(http):
        return
    rule: http_pb2.HttpRule = options.Extensions[http]
    for each in (rule, *rule.additional_bindings):
        yield _binding(each)


def _binding(rule: http_pb2.HttpRule) -> Binding:
    verb = rule.WhichOneof("pattern")
    if verb == "custom":
        return Binding(rule.custom.kind, rule.custom.path, rule.body)
    assert verb is not None, "a google.api.http rule names a verb and a path"
    return Binding(verb.upper(), getattr(rule, verb), rule.body)
