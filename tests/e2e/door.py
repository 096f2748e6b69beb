"""Callers of the real mesh: each has a token and comes through Envoy, as anybody does."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import grpc
from google.protobuf.message import Message
from joserfc import jwt
from joserfc.jwk import ECKey

from services.common.tokens import AUDIENCE, ISSUED_ROLES, ISSUER
from services.stack.stack import Stack
from services.stack.tokens import KEY_FILE
from tests.e2e.catalog import RPC, Rpc

ALL_ROLES = ISSUED_ROLES
TIMEOUT_S = 20.0
MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""Ours, far above the server's: its limit is to be met, not this one."""

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Door:
    """The door of the stack, and the key that signs tokens for it."""

    stack: Stack
    http: aiohttp.ClientSession
    channel: grpc.aio.Channel

    def caller(
        self, tenant: str = "", roles: Sequence[str] = ALL_ROLES, subject: str = "tester"
    ) -> "Caller":
        """Return a caller of a tenant, a new one by default."""
        tenant = tenant or f"t-{uuid.uuid4().hex[:12]}"
        return Caller(self, tenant, self.token(tenant, roles, sub=subject))

    def token(
        self, tenant: str, roles: Sequence[str], key: ECKey | None = None, **claims: Any
    ) -> str:
        """Sign what the stack's own command would refuse to: other roles, claims and keys."""
        own = ECKey.import_key(json.loads((self.stack.settings.secrets_dir / KEY_FILE).read_text()))
        body = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "tester",
            "tenant_id": tenant,
            "roles": " ".join(roles),
            "exp": int(time.time()) + 600,
            **claims,
        }
        return jwt.encode({"alg": "ES256", "kid": own.kid}, body, key or own)


@dataclass(frozen=True)
class Caller:
    """Somebody with a token, or without one when it is empty."""

    door: Door
    tenant: str
    token: str
    metadata: Metadata = field(default=())
    """Sent besides the token."""

    @property
    def headers(self) -> dict[str, str]:
        own = {"authorization": f"Bearer {self.token}"} if self.token else {}
        return {**dict(self.metadata), **own}

    async def rest(self, verb: str, path: str, **options: Any) -> tuple[int, Any]:
        """Call a REST path; return the status and the JSON."""
        headers = {**self.headers, **options.pop("headers", {})}
        async with self.door.http.request(verb, path, headers=headers, **options) as answer:
            return answer.status, json.loads(await answer.read())

    async def call(self, name: str, request: Message, timeout_s: float = TIMEOUT_S) -> Any:
        """Call a unary rpc by gRPC."""
        rpc = RPC[name]
        method = self.door.channel.unary_unary(
            rpc.path, lambda message: message.SerializeToString(), rpc.response.FromString
        )
        return await method(request, timeout=timeout_s, metadata=tuple(self.headers.items()))

    def stream(self, name: str, timeout_s: float = TIMEOUT_S) -> Any:
        """Open a stream of both directions."""
        rpc = RPC[name]
        method = self.door.channel.stream_stream(
            rpc.path, lambda message: message.SerializeToString(), rpc.response.FromString
        )
        return method(timeout=timeout_s, metadata=tuple(self.headers.items()))

    def watch(self, name: str, request: Message, timeout_s: float = TIMEOUT_S) -> Any:
        """Open a stream of answers."""
        rpc = RPC[name]
        method = self.door.channel.unary_stream(
            rpc.path, lambda message: message.SerializeToString(), rpc.response.FromString
        )
        return method(request, timeout=timeout_s, metadata=tuple(self.headers.items()))

    async def any(self, rpc: Rpc, request: Message | None, timeout_s: float = TIMEOUT_S) -> Any:
        """Call an rpc of whatever kind with one message; return the first answer.

        A stream to which nothing is sent waits for its refusal: sending into one
        that is being refused would be an error of its own.
        """
        if not rpc.server_streaming:
            assert request is not None
            return await self.call(rpc.name, request, timeout_s)
        if rpc.client_streaming:
            call = self.stream(rpc.name, timeout_s)
            if request is not None:
                await call.write(request)
        else:
            call = self.watch(rpc.name, request, timeout_s)
        answer = await call.read()
        if answer is grpc.aio.EOF:
            # Raises what ended the stream.
            raise grpc.aio.AioRpcError(
                await call.code(),
                await call.initial_metadata(),
                await call.trailing_metadata(),
                await call.details(),
            )
        call.cancel()
        return answer


@asynccontextmanager
async def opened(stack: Stack) -> AsyncIterator[Door]:
    """Open connections to the door of a stack."""
    options = [
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.enable_retries", 0),
    ]
    target = f"127.0.0.1:{stack.settings.edge_port}"
    async with (
        aiohttp.ClientSession(stack.edge_url) as http,
        grpc.aio.insecure_channel(target, options) as channel,
    ):
        yield Door(stack, http, channel)
