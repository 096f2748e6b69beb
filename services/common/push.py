"""Pushes: news for those who follow a conversation or a subject, through Redis.

The fast path: what is pushed was committed before, and whoever misses a push finds
it by a watermark. So nothing here waits for Redis, and nothing fails with it.

Each process that follows something is an instance with a channel of its own. A set
by what is followed, `follow:{tenant:conversation}`, holds the instances that do, so
that a push reaches those only. An instance that vanishes runs out of the sets.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import structlog
from google.protobuf.message import DecodeError
from interchange.gateway.v1 import gateway_pb2
from prometheus_client import Counter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.common.config import Settings

log = structlog.get_logger()

PUSHED = Counter("push_sent_total", "Pushes handed to Redis, once per instance that follows")
DROPPED = Counter("push_dropped_total", "Pushes that were not sent", ["reason"])

WAITING_MAX = 20_000
"""Pushes that wait for Redis, at most: later ones are dropped."""
BATCH_MAX = 500
"""Pushes in one message of Redis, at most."""
LEASE_S = 60
"""How long an instance follows without saying so again."""
REFRESH_S = 20
UNFOLLOW_S = 1.0
"""How long an instance is still told what it has ceased to follow."""
RESTART_S = 0.2
FAULTS = (RedisError, OSError, TimeoutError)


def follow_key(tenant_id: str, conversation_id: str, subject: str) -> str:
    """Return the Redis key of those who follow a conversation, or a subject."""
    if conversation_id:
        return f"follow:{{{tenant_id}:{conversation_id}}}"
    return f"follow:subject:{{{tenant_id}:{subject}}}"


def channel(instance_id: str) -> str:
    """Return the Redis channel of an instance."""
    return f"push:{instance_id}"


class Pusher:
    """Pushes from this process, in order, by one task."""

    def __init__(self, client: Redis, settings: Settings) -> None:
        self._client = client
        self._drop_every = settings.push_drop_every
        self._count = 0
        self._waiting: deque[gateway_pb2.Push] = deque()
        self._wake = asyncio.Event()

    def push(self, pushes: Iterable[gateway_pb2.Push]) -> None:
        """Push after a commit; return at once, whatever Redis does."""
        for push in pushes:
            self._count += 1
            if self._drop_every and self._count % self._drop_every == 0:
                DROPPED.labels("test").inc()
            elif len(self._waiting) >= WAITING_MAX:
                DROPPED.labels("full").inc()
            else:
                self._waiting.append(push)
        self._wake.set()

    async def run(self) -> None:
        """Hand over what waits, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                size = min(len(self._waiting), BATCH_MAX)
                batch = [self._waiting.popleft() for _ in range(size)]
                try:
                    await self._send(batch)
                except Exception as error:
                    # Whatever it is: what is fast must not take along what is durable.
                    DROPPED.labels("redis").inc(len(batch))
                    log.warning("pushes dropped", count=len(batch), error=repr(error))

    async def _send(self, batch: Sequence[gateway_pb2.Push]) -> None:
        by_key: defaultdict[str, list[gateway_pb2.Push]] = defaultdict(list)
        for push in batch:
            by_key[follow_key(push.tenant_id, push.conversation_id, push.subject)].append(push)
        pipeline = self._client.pipeline(transaction=False)
        now = int(time.time())
        for key in by_key:
            pipeline.zrangebyscore(key, now, "+inf")
        followers: list[list[bytes]] = await pipeline.execute()
        by_instance: defaultdict[bytes, gateway_pb2.PushBatch] = defaultdict(gateway_pb2.PushBatch)
        for pushes, instances in zip(by_key.values(), followers, strict=True):
            for instance in instances:
                by_instance[instance].pushes.extend(pushes)
        if not by_instance:
            return
        pipeline = self._client.pipeline(transaction=False)
        for instance, told in by_instance.items():
            PUSHED.inc(len(told.pushes))
            pipeline.publish(channel(instance.decode()), told.SerializeToString())
        await pipeline.execute()


class Followers:
    """What this process follows, and the pushes that come for it.

    `receive` is called with each push, in the order in which one process pushed.
    """

    def __init__(
        self, client: Redis, instance_id: str, receive: Callable[[gateway_pb2.Push], None]
    ) -> None:
        self._client = client
        self._instance = instance_id
        self._receive = receive
        self._counts: dict[str, int] = {}
        self._entering: dict[str, asyncio.Future[None]] = {}
        self._left: set[str] = set()
        self._flushing: asyncio.Task[None] | None = None

    async def follow(self, tenant_id: str, *, conversation_id: str = "", subject: str = "") -> None:
        """Follow a conversation or a subject; return once pushes reach this process.

        Without Redis it returns as well, and follows as soon as there is one.
        """
        key = follow_key(tenant_id, conversation_id, subject)
        known = self._counts.get(key, 0)
        self._counts[key] = known + 1
        if not known:
            self._left.discard(key)
            self._entering[key] = asyncio.get_running_loop().create_future()
            if self._flushing is None:
                self._flushing = asyncio.create_task(self._flush())
        entering = self._entering.get(key)
        if entering is not None:
            # Others may wait for the same: one who gives up must not take them along.
            await asyncio.shield(entering)

    def unfollow(self, tenant_id: str, *, conversation_id: str = "", subject: str = "") -> None:
        """Undo one call of `follow`."""
        key = follow_key(tenant_id, conversation_id, subject)
        count = self._counts[key] - 1
        if count:
            self._counts[key] = count
        else:
            del self._counts[key]
            self._left.add(key)

    async def run(self) -> None:
        """Take pushes until cancelled; come back after Redis did."""
        keeping = asyncio.create_task(self._keep())
        try:
            while True:
                try:
                    await self._listen()
                except FAULTS:
                    pass  # Redis is away, or was
                except Exception:
                    log.exception("listening failed")
                await asyncio.sleep(RESTART_S)
        finally:
            keeping.cancel()

    async def _listen(self) -> None:
        async with self._client.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.subscribe(channel(self._instance))
            # It may be another Redis than before, or an empty one.
            await self._enter(list(self._counts))
            while True:
                message = await pubsub.get_message(timeout=5)
                if message is not None:
                    self._take(message["data"])

    def _take(self, data: bytes) -> None:
        try:
            batch = gateway_pb2.PushBatch.FromString(data)
        except DecodeError:
            log.warning("push is no message", size=len(data))
            return
        for push in batch.pushes:
            try:
                self._receive(push)
            except Exception:
                log.exception("push failed")

    async def _flush(self) -> None:
        """Register all who began to follow since the last time, in one round trip."""
        try:
            while self._entering:
                entering = list(self._entering)
                with suppress(*FAULTS):
                    await self._enter(entering)
                for key in entering:
                    self._entering.pop(key).set_result(None)
        finally:
            self._flushing = None

    async def _keep(self) -> None:
        refreshed = time.monotonic()
        while True:
            await asyncio.sleep(UNFOLLOW_S)
            try:
                await self._leave()
                if time.monotonic() - refreshed >= REFRESH_S:
                    await self._enter(list(self._counts))
                    refreshed = time.monotonic()
            except FAULTS:
                pass  # Redis is away: again in a moment
            except Exception:
                log.exception("following failed")

    async def _enter(self, keys: Sequence[str]) -> None:
        if not keys:
            return
        until = int(time.time()) + LEASE_S
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.zadd(key, {self._instance: until})
            pipeline.expire(key, 2 * LEASE_S)
        await pipeline.execute()

    async def _leave(self) -> None:
        left = list(self._left)
        if not left:
            return
        pipeline = self._client.pipeline(transaction=False)
        for key in left:
            pipeline.zrem(key, self._instance)
        await pipeline.execute()
        # One that was followed again meanwhile was taken out of the set, and must enter.
        again = [key for key in left if key in self._counts]
        self._left.difference_update(left)
        await self._enter(again)
