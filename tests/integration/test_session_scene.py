"""The scene of the session service: real Postgres, a clock that stands still, many callers."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import pytest
from confluent_kafka import Consumer
from google.rpc import error_details_pb2, status_pb2
from interchange.session.v1 import session_pb2
from interchange.session.v1 import session_service_pb2 as pb
from interchange.session.v1.session_events_pb2 import SessionEnded, SessionOpened
from interchange.session.v1.session_service_pb2_grpc import SessionServiceStub

from services.common import kafka
from services.common.clock import ManualClock
from services.common.config import Settings
from services.common.db import Connection
from services.common.host import Host
from services.session.__main__ import wire_by
from services.session.sweep import Sweep
from services.stack import topics
from services.stack.stack import Stack

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
CUSTOMER = session_pb2.SUBJECT_KIND_CUSTOMER
AGENT = session_pb2.SUBJECT_KIND_AGENT


class WallClock:
    """The wall time of all instances, moved by hand."""

    def __init__(self) -> None:
        self._clock = ManualClock(START)

    async def __call__(self, connection: Connection) -> datetime:
        return self._clock.now()

    def advance(self, seconds: float) -> None:
        self._clock.advance(timedelta(seconds=seconds))

    @property
    def now(self) -> datetime:
        return self._clock.now()


@dataclass
class Caller:
    """Somebody of a tenant who calls an instance of the service."""

    stub: Any
    tenant: str
    subject: str
    roles: str = "customer"

    async def __call__(self, rpc: str, request: Any) -> Any:
        headers = (
            ("x-interchange-tenant", self.tenant),
            ("x-interchange-subject", self.subject),
            ("x-interchange-roles", self.roles),
        )
        return await getattr(self.stub, rpc)(request, metadata=headers, timeout=20)

    async def open(self, client: str = "test") -> Any:
        return await self("OpenSession", pb.OpenSessionRequest(client=client))

    async def heartbeat(self, session_id: str) -> Any:
        return await self("HeartbeatSession", pb.HeartbeatSessionRequest(session_id=session_id))

    async def resume(self, session_id: str, secret: str) -> Any:
        request = pb.ResumeSessionRequest(session_id=session_id, secret=secret)
        return await self("ResumeSession", request)

    async def end(self, session_id: str) -> Any:
        return await self("EndSession", pb.EndSessionRequest(session_id=session_id))

    async def sessions(self, **filters: Any) -> list[Any]:
        return list((await self("ListSessions", pb.ListSessionsRequest(**filters))).sessions)


@dataclass
class Gateway:
    """An instance of the gateway, in one tenant."""

    call: Caller
    instance_id: str = field(default_factory=lambda: f"g-{uuid4().hex[:12]}")

    async def attach(self, *attachments: pb.Attachment) -> list[Any]:
        request = pb.AttachSessionsRequest(instance_id=self.instance_id, attachments=attachments)
        return list((await self.call("AttachSessions", request)).results)

    async def take(self, subject: str, resumed: Any = None) -> Any:
        """Attach one socket, which takes up the session of a result, if given."""
        attachment = socket(subject)
        if resumed is not None:
            attachment.session_id = resumed.session.session_id
            attachment.secret = resumed.secret
        (result,) = await self.attach(attachment)
        return result

    async def detach(self, ended: Sequence[str] = (), broken: Sequence[str] = ()) -> int:
        request = pb.DetachSessionsRequest(
            instance_id=self.instance_id, ended_session_ids=ended, broken_session_ids=broken
        )
        return int((await self.call("DetachSessions", request)).detached_count)

    async def heartbeat(self) -> list[str]:
        request = pb.HeartbeatInstanceRequest(instance_id=self.instance_id)
        return list((await self.call("HeartbeatInstance", request)).lost_session_ids)

    async def confirm(self, *session_ids: str) -> list[str]:
        request = pb.ConfirmSessionsRequest(instance_id=self.instance_id, session_ids=session_ids)
        return list((await self.call("ConfirmSessions", request)).lost_session_ids)

    async def online(self, *subjects: str) -> list[str]:
        request = pb.ListPresenceRequest(subjects=subjects)
        return list((await self.call("ListPresence", request)).online_subjects)


@dataclass
class Scene:
    """A tenant of its own, before instances of the service that share a clock."""

    stub: Any
    sweep: Sweep
    clock: WallClock
    tenant: str

    def caller(self, subject: str = "ann", roles: str = "customer") -> Caller:
        return Caller(self.stub, self.tenant, subject, roles)

    def gateway(self) -> Gateway:
        return Gateway(self.caller("gateway", "mesh"))

    def neighbour(self) -> "Scene":
        """Return another tenant of the same service."""
        return Scene(self.stub, self.sweep, self.clock, new_tenant())

    async def swept(self, seconds: float = 0) -> None:
        """Let time pass, then end what is due."""
        self.clock.advance(seconds)
        while await self.sweep.sweep():
            pass
        await self.sweep.tidy()


def new_tenant() -> str:
    return f"t{uuid4().hex[:12]}"


def socket(subject: str = "ann", kind: int = CUSTOMER, **fields: Any) -> pb.Attachment:
    return pb.Attachment(subject=subject, subject_kind=kind, client="widget", **fields)


def settings_of(servers: Stack) -> Settings:
    """Return the settings of the service, once its schema and topics are there."""
    servers.migrate(["session"])
    names = topics.names(["session"], servers.settings.kafka_topic_prefix)
    topics.create(servers.kafka_bootstrap, names, servers.settings.kafka_partitions, 1)
    return Settings(
        listen="127.0.0.1:0",
        database_url=f"postgresql://{servers.postgres.address}/interchange",
        database_password=servers.database_password(),
        kafka_bootstrap=servers.kafka_bootstrap,
        redis_url=servers.redis_url,
        drain_notice_ms=0,
    )


@asynccontextmanager
async def service(settings: Settings, clock: WallClock) -> AsyncIterator[tuple[Any, Sweep]]:
    """Run an instance of the service; its sweep is run by hand."""
    host = Host(settings)
    sweep = await wire_by(host, clock)
    await host.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{host.port}") as channel:
            yield SessionServiceStub(channel), sweep
    finally:
        await host.leave()


async def refused(calling: Awaitable[Any]) -> tuple[str, str]:
    """Return code and reason of the error of a call."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await calling
    metadata = dict(caught.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    return caught.value.code().name, reason(status)


def reason(status: Any) -> str:
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    return info.reason


async def stored_events(owner: asyncpg.Connection, tenant: str, subject: str) -> list[Any]:
    """Return the events of a subject from the event store, in their order."""
    rows = await owner.fetch(
        "SELECT e.* FROM session.outbox, unnest(types, keys, sequences, payloads) "
        "AS e(type, key, sequence, payload) WHERE tenant_id = $1 AND e.key = $2 "
        "ORDER BY e.sequence",
        tenant,
        subject,
    )
    assert [row["sequence"] for row in rows] == list(range(1, len(rows) + 1))
    kinds = {"SessionOpened": SessionOpened, "SessionEnded": SessionEnded}
    return [kinds[row["type"].rpartition(".")[2]].FromString(row["payload"]) for row in rows]


async def published(settings: Settings, tenant: str, count: int) -> list[Any]:
    """Return the first events of a tenant from Kafka."""
    return await asyncio.to_thread(_published, settings, tenant, count)


def _published(settings: Settings, tenant: str, count: int) -> list[Any]:
    known = {"bootstrap.servers": settings.kafka_bootstrap, "group.id": uuid4().hex}
    consumer = Consumer({**known, "auto.offset.reset": "earliest"})
    consumer.subscribe(["session-events"])
    found: list[Any] = []
    expiry = time.monotonic() + 20
    while len(found) < count and time.monotonic() < expiry:
        message = consumer.poll(0.1)
        if message is None or message.error():
            continue
        if (message.key() or b"").decode().startswith(f"{tenant}:"):
            found.append(kafka.read(message, "session-events"))
    consumer.close()
    return found
