"""All conversations that sockets of this instance follow.

History comes first, live messages after it, without a hole between the two and
nothing twice: news are followed before history is read, and held until it was sent.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Protocol

import grpc
import structlog
from interchange.gateway.v1 import gateway_pb2
from interchange.message.v1.message_pb2 import Message
from interchange.message.v1.message_service_pb2 import ResumeMessagesResponse, Tail

from services.common import access
from services.common.errors import Unavailable
from services.common.identity import Caller
from services.gateway import frames_out, metrics, translation
from services.gateway.codec import encode
from services.gateway.feed import Feed
from services.gateway.reading import Reading
from services.gateway.refusals import is_missing, refusal
from services.gateway.subscription import Reader, Subscription

log = structlog.get_logger()

IN_VAIN_MAX = 50
"""Attempts to read what was pushed before."""
GRACE_S = 0.02
"""How long a hole may be a push that overtook another one."""


class Follows(Protocol):
    """Tells this instance of news (common/push.Followers)."""

    async def follow(self, tenant_id: str, *, conversation_id: str = "", subject: str = "") -> None:
        """Return once news come."""

    def unfollow(self, tenant_id: str, *, conversation_id: str = "", subject: str = "") -> None:
        """Undo one call of `follow`."""


class Feeds:
    """The conversations of this instance, by tenant and id."""

    def __init__(
        self,
        reading: Reading,
        followers: Follows,
        joined: Callable[[Subscription], None],
    ) -> None:
        """`joined` hears of each subscription that begins."""
        self._reading = reading
        self._followers = followers
        self._joined = joined
        self._feeds: dict[tuple[str, str], Feed] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.doubtful: set[Feed] = set()
        """Where somebody may have lost the right to read; `doubt` is set then."""
        self.doubt = asyncio.Event()

    def __iter__(self) -> Iterator[Feed]:
        return iter(tuple(self._feeds.values()))

    def get(self, tenant_id: str, conversation_id: str) -> Feed | None:
        """Return a conversation that is followed here."""
        return self._feeds.get((tenant_id, conversation_id))

    def subscribe(
        self, reader: Reader, conversation_id: str, after: int, epoch: str, ref: str
    ) -> None:
        """Let a socket follow a conversation; once more starts anew."""
        self.unsubscribe(reader, conversation_id)
        key = reader.caller.tenant_id, conversation_id
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = Feed(*key)
        subscription = Subscription(reader, feed)
        feed.subscriptions.append(subscription)
        reader.subscriptions[conversation_id] = subscription
        metrics.SUBSCRIPTIONS.inc()
        subscription.task = self._spawn(self._begin(subscription, after, epoch, ref))

    def unsubscribe(self, reader: Reader, conversation_id: str) -> bool:
        """Let a socket follow a conversation no longer; False when it did not."""
        subscription = reader.subscriptions.pop(conversation_id, None)
        if subscription is None:
            return False
        metrics.SUBSCRIPTIONS.dec()
        feed = subscription.feed
        feed.subscriptions.remove(subscription)
        if subscription.task is not None and subscription.task is not asyncio.current_task():
            subscription.task.cancel()
        if subscription.following:
            self._followers.unfollow(feed.tenant_id, conversation_id=conversation_id)
        if not feed.subscriptions:
            del self._feeds[feed.tenant_id, conversation_id]
            self.doubtful.discard(feed)
        return True

    def end(self, subscription: Subscription, reason: str, ref: str = "") -> None:
        """Let a socket follow no longer, and say why."""
        reader, conversation_id = subscription.reader, subscription.feed.conversation_id
        if reader.subscriptions.get(conversation_id) is subscription:
            self.unsubscribe(reader, conversation_id)
            reader.send(encode(frames_out.Unsubscribed(conversation_id, reason, ref=ref)))

    def receive(self, push: gateway_pb2.Push) -> None:
        """Take what was pushed of a conversation."""
        feed = self._feeds.get((push.tenant_id, push.conversation_id))
        if feed is not None:
            self._after(feed, doubtful=feed.of_push(push))

    def learn(self, tenant_id: str, message: Message) -> None:
        """Take a message that was stored a moment ago; its push may be on its way."""
        feed = self._feeds.get((tenant_id, message.conversation_id))
        if feed is not None:
            self._after(feed, doubtful=feed.take(message))

    def apply_tail(self, feed: Feed, tail: Tail, doubts: int, asked_at: float) -> None:
        """Take what is known for certain of a conversation: who may read it, and how far it is.

        `doubts` is the feed's count of them when this was asked: what was asked
        before a hand-over says nothing of after it. Nor does what was asked before
        somebody was let in say anything of him: he may have become its agent meanwhile.
        """
        if asked_at >= feed.introduced_at:
            self._apply_readers(feed, tail, doubts)
        if feed.order.last is not None:
            feed.order.heard_of(tail.last_sequence)
            self._after(feed)
        lost = feed.marks_version + feed.marks_pushed < tail.marks_version
        feed.marks_version, feed.marks_pushed = tail.marks_version, 0
        if lost:
            self._spawn(self._read_marks(feed))

    def _apply_readers(self, feed: Feed, tail: Tail, doubts: int) -> None:
        feed.customer_id, feed.agent_id = tail.customer_id, tail.agent_id
        for each in tuple(feed.subscriptions):
            if not each.told:
                continue
            if not access.may_see(each.reader.caller, tail.customer_id, tail.agent_id):
                self.end(each, "NOT_YOURS")
            elif each.checking and doubts == feed.doubts:
                each.checking = False
                self._let_go(each)

    def close(self) -> None:
        """Stop all reads."""
        for task in self._tasks:
            task.cancel()

    def _after(self, feed: Feed, *, doubtful: bool = False) -> None:
        if doubtful:
            feed.doubts += 1
            self.doubtful.add(feed)
            self.doubt.set()
        if feed.order.behind and not feed.repairing:
            feed.repairing = True
            self._spawn(self._repair(feed))

    def _let_go(self, subscription: Subscription) -> None:
        """Go live again after a check; read what did not fit meanwhile."""
        if not subscription.release() and subscription.task is None:
            subscription.task = self._spawn(self._catch_up(subscription))

    async def _begin(self, sub: Subscription, after: int, epoch: str, ref: str) -> None:
        """Send history and go live."""
        feed, reader = sub.feed, sub.reader
        sub.following = True
        try:
            await self._followers.follow(feed.tenant_id, conversation_id=feed.conversation_id)
            page = await self._reading.first(reader.caller, feed.conversation_id, after, epoch)
        except Exception as error:
            self.unsubscribe(reader, feed.conversation_id)
            reader.send(encode(refusal(error, ref)))
            return
        self._introduce(sub, page, after, ref)
        await self._catch_up(sub, page)

    async def _catch_up(
        self, sub: Subscription, page: ResumeMessagesResponse | None = None
    ) -> None:
        """Send history, a page at a time, until nothing is missing before what is live."""
        in_vain = 0
        try:
            while True:
                if page is None:
                    page = await self._next_page(sub)
                await _send(sub, page)
                if not page.more:
                    if sub.checking or sub.release():
                        break
                    # What was pushed is not readable yet where we asked.
                    in_vain += 1
                    if in_vain > IN_VAIN_MAX:
                        raise Unavailable("HISTORY_UNAVAILABLE", "messages can't be read now")
                    await asyncio.sleep(GRACE_S)
                page = None
        except Exception as error:
            self.end(sub, refusal(error).reason)
            return
        sub.task = None
        doubtful = sub.feed.anchor(sub.last)
        self._after(sub.feed, doubtful=doubtful or sub.checking)

    async def _next_page(self, sub: Subscription) -> ResumeMessagesResponse:
        feed = sub.feed
        page = await self._reading.page(
            sub.reader.caller, feed.conversation_id, sub.last, feed.epoch
        )
        if not page.recovered:
            # The history after what was just sent is gone: say so.
            self._introduce(sub, page, sub.last, "")
        return page

    def _introduce(
        self, sub: Subscription, page: ResumeMessagesResponse, after: int, ref: str
    ) -> None:
        """Tell a client that it follows, and from where."""
        feed, reader = sub.feed, sub.reader
        if feed.epoch and feed.epoch != page.epoch:
            for other in [each for each in feed.subscriptions if each.told and each is not sub]:
                self.end(other, "EPOCH_CHANGED")
            feed.restart()
        feed.epoch = page.epoch
        feed.customer_id, feed.agent_id = page.customer_id, page.agent_id
        feed.merge_marks(list(page.marks))
        if not page.recovered:
            after = page.messages[0].sequence - 1 if page.messages else page.last_sequence
            metrics.NOT_RECOVERED.inc()
        sub.last, sub.told = after, True
        feed.introduced_at = asyncio.get_running_loop().time()
        feed.saw(reader.caller.subject, online=True)
        frame = frames_out.Subscribed(
            conversation_id=feed.conversation_id,
            epoch=page.epoch,
            recovered=page.recovered,
            after_sequence=after,
            last_sequence=page.last_sequence,
            customer_id=page.customer_id,
            agent_id=page.agent_id,
            ended=page.ended,
            marks=tuple(feed.marks.values()),
            online=tuple(each for each in feed.participants if each in feed.online),
            ref=ref,
        )
        reader.send(encode(frame))
        self._joined(sub)

    async def _repair(self, feed: Feed) -> None:
        """Fetch what is missing of a conversation, as one who may read it."""
        try:
            await asyncio.sleep(GRACE_S)
            for sub in tuple(feed.subscriptions):
                if not feed.order.behind:
                    return
                if sub.live and not sub.checking:
                    await self._fetch(feed, sub.reader.caller)
        finally:
            feed.repairing = False

    async def _fetch(self, feed: Feed, caller: Caller) -> None:
        while feed.order.behind and feed.subscriptions:
            after = feed.order.last or 0
            try:
                page = await self._reading.page(caller, feed.conversation_id, after, feed.epoch)
            except grpc.aio.AioRpcError as error:
                if not is_missing(error):
                    log.warning("repair failed", error=refusal(error).reason)
                return
            if not page.recovered:
                return  # The watermark, or who comes next, meets the new history.
            metrics.REPAIRED.inc(len(page.messages))
            doubtful = [feed.take(message) for message in page.messages]
            if any(doubtful):
                self._after(feed, doubtful=True)
            if feed.order.last == after:
                return  # Not readable yet: the next watermark brings us back.

    async def _read_marks(self, feed: Feed) -> None:
        """Read marks whose push was lost."""
        sub = next((each for each in feed.subscriptions if each.live), None)
        if sub is None:
            return
        try:
            page = await self._reading.page(
                sub.reader.caller, feed.conversation_id, sub.last, feed.epoch
            )
        except Exception as error:
            log.warning("marks were not read", error=refusal(error).reason)
            return
        if moved := feed.merge_marks(list(page.marks)):
            feed.tell(frames_out.Marks(feed.conversation_id, moved))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a read of messages died", exc_info=error)


async def _send(sub: Subscription, page: ResumeMessagesResponse) -> None:
    """Send a page of history, as fast as the client reads."""
    for message in page.messages:
        if message.sequence > sub.last:
            await sub.reader.room()
            sub.reader.send(encode(translation.message(message)))
            sub.last = message.sequence
