"""The gRPC server of a process and what operators ask of it.

Health, reflection and channelz are served without a caller's identity: the
sidecar and the kubelet have none. The edge routes none of them.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format
from google.protobuf.descriptor import FileDescriptor
from grpc_channelz.v1 import _async as channelz_async
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import (  # type: ignore[import-untyped]
    health_pb2,
    health_pb2_grpc,
)
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]
    reflection,
    reflection_pb2,
)
from interchange.options.v1 import options_pb2

from services.common.config import Settings

DESCRIPTORS = Path(options_pb2.__file__).parents[2] / "descriptors.binpb"
REFLECTION = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
PING_INTERVAL_MIN_MS = 10_000
"""A client that pings more often is sent away; `clients.py` keeps to it."""
Status = health_pb2.HealthCheckResponse


def create(settings: Settings) -> grpc.aio.Server:
    """Return a server with the limits of `settings`, without services, not started."""
    return grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),  # a second process on the port must fail, not share it
            ("grpc.max_concurrent_streams", settings.concurrent_streams_max),
            ("grpc.max_receive_message_length", settings.message_bytes_max),
            ("grpc.max_send_message_length", settings.message_bytes_max),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", PING_INTERVAL_MIN_MS),
        ]
    )


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Health of a process and of each of its services (grpc.health.v1).

    The library's own Watch never ends, and a drain would wait for it.
    """

    def __init__(self) -> None:
        self._statuses: dict[str, Any] = {"": Status.NOT_SERVING}
        self._changed = asyncio.Condition()
        self._left = False

    async def serving(self, services: Iterable[str]) -> None:
        """Say SERVING for the process and for each of `services`."""
        async with self._changed:
            for name in ("", *services):
                self._statuses[name] = Status.NOT_SERVING if self._left else Status.SERVING
            self._changed.notify_all()

    async def leave(self) -> None:
        """Say NOT_SERVING for everything, for good."""
        async with self._changed:
            self._left = True
            self._statuses = dict.fromkeys(self._statuses, Status.NOT_SERVING)
            self._changed.notify_all()

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> health_pb2.HealthCheckResponse:
        """Return the status of one service, or of the process when none is named."""
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return Status(status=status)

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Yield the status and each change of it; end once the process leaves."""
        last = None
        while not (self._left and last is not None):
            async with self._changed:
                while (status := self._status(request.service)) == last and not self._left:
                    await self._changed.wait()
            if status != last:
                yield Status(status=status)
            last = status

    def _status(self, service: str) -> Any:
        return self._statuses.get(service, Status.SERVICE_UNKNOWN)


def add_operations(server: grpc.aio.Server, health_servicer: Health) -> None:
    """Add health, reflection and channelz to a server that has not started."""
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    channelz_pb2_grpc.add_ChannelzServicer_to_server(  # type: ignore[no-untyped-call]
        channelz_async.ChannelzServicer(), server
    )
    _add_reflection(server)


def _add_reflection(server: grpc.aio.Server) -> None:
    """Serve reflection for all services of the mesh, hosted here or not.

    One door answers for everyone, so any instance knows every service. v1 and
    v1alpha have the same messages under two names; the library has v1alpha.
    """
    pool, services = mesh_descriptors()
    servicer = reflection.aio.ReflectionServicer(services, pool=pool)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in REFLECTION:
        methods = {"ServerReflectionInfo": handler}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))


def mesh_descriptors() -> tuple[descriptor_pool.DescriptorPool, list[str]]:
    """Return a pool of all descriptors of the mesh and the names of its services."""
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
    for library in (health_pb2, channelz_pb2, reflection_pb2):
        _collect(library.DESCRIPTOR, files)
    files.file.append(_reflection_v1())
    pool = descriptor_pool.DescriptorPool()
    names = []
    for file in files.file:
        pool.Add(file)
        names += [f"{file.package}.{service.name}" for service in file.service]
    return pool, sorted(names)


def _collect(file: FileDescriptor, files: descriptor_pb2.FileDescriptorSet) -> None:
    if any(known.name == file.name for known in files.file):
        return
    for imported in file.dependencies:
        _collect(imported, files)
    file.CopyToProto(files.file.add())


def _reflection_v1() -> descriptor_pb2.FileDescriptorProto:
    """Return the description of v1, which the library lacks: v1alpha, renamed."""
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    text = json_format.MessageToJson(file).replace("reflection.v1alpha", "reflection.v1")
    tree = json.loads(text) | {"name": "grpc/reflection/v1/reflection.proto"}
    return json_format.ParseDict(tree, descriptor_pb2.FileDescriptorProto())
