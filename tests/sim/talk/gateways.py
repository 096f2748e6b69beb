"""Gateways: the real ordering of what sockets get, over pushes that are lost, late or doubled."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from grpc.aio import AioRpcError, Metadata
from interchange.gateway.v1.gateway_pb2 import Push
from interchange.message.v1 import message_service_pb2 as pb
from interchange.message.v1.message_pb2 import Message

from services.common.errors import InterchangeError
from services.common.identity import Caller
from services.gateway.feeds import Feeds
from services.gateway.reading import Reading
from services.gateway.refusals import DETAILS
from services.gateway.subscription import Subscription
from services.gateway.tails import Tails
from tests.sim.chance import Chance
from tests.sim.house import House
from tests.sim.talk.office import Office
from tests.sim.talk.sky import Sky

DELAY_MAX = 30
"""Steps that a push may be late."""


class Gateway:
    """One instance: its feeds, and the sockets that it holds."""

    def __init__(self, house: House, office: Office, chance: Chance) -> None:
        self._chance, self._office = chance, office
        self._late: list[tuple[int, Push]] = []
        self._upstream = Upstream(office, self)
        reading = Reading(self._upstream, _on_no_desk)  # type: ignore[arg-type]
        self.feeds = Feeds(reading, Followed(), _joined)
        self._tails = Tails(self.feeds, self._upstream, house.settings)  # type: ignore[arg-type]
        self.sky = Sky()

    def push(self, pushes: Iterable[Push], step: int) -> None:
        """Take what was pushed, or lose, delay or double it."""
        for push in pushes:
            if self.feeds.get(push.tenant_id, push.conversation_id) is None:
                continue
            if self._chance.happens(self.sky.push_lost):
                continue
            if self._chance.happens(self.sky.push_doubled):
                self._late.append((step + self._chance.between(0, DELAY_MAX), push))
            delayed = self._chance.happens(self.sky.push_late)
            due = step + (self._chance.between(1, DELAY_MAX) if delayed else 0)
            self._late.append((due, push))

    async def arrive(self, step: int) -> None:
        """Hand out what is due."""
        due = [push for at, push in self._late if at <= step]
        self._late = [(at, push) for at, push in self._late if at > step]
        for push in due:
            self.feeds.receive(push)
        await self.settle()

    def overtake(self) -> None:
        """Hand out something of what is late, while something else is on its way."""
        if self._late and self._chance.happens(self.sky.overtaken):
            _, push = self._late.pop(self._chance.between(0, len(self._late) - 1))
            self.feeds.receive(push)

    async def look(self) -> None:
        """Ask how far all conversations are, as every second or two."""
        await self._tails.look(self.feeds)
        await self.settle()

    async def settle(self) -> None:
        """Let everything that was begun come to its end."""
        for _ in range(1_000):
            if self.feeds.doubt.is_set():
                self.feeds.doubt.clear()
                doubtful, self.feeds.doubtful = self.feeds.doubtful, set()
                # By name: sets have an order of their own in each process.
                await self._tails.look(sorted(doubtful, key=lambda feed: feed.conversation_id))
            tasks = list(self.feeds._tasks)
            if not tasks and not self.feeds.doubt.is_set():
                return
            if tasks:
                await asyncio.wait(tasks)
        raise AssertionError("a gateway never comes to rest")

    async def close(self) -> None:
        """Vanish."""
        self.feeds.close()
        await asyncio.sleep(0)


class Upstream:
    """What a gateway asks the message service, in place of gRPC."""

    def __init__(self, office: Office, instance: Gateway) -> None:
        self._office, self._instance = office, instance

    async def resume(
        self, caller: Caller, name: str, after: int, epoch: str, size: int
    ) -> pb.ResumeMessagesResponse:
        request = pb.ResumeMessagesRequest(
            conversation_id=name, after_sequence=after, epoch=epoch, page_size=SMALL
        )
        answer: pb.ResumeMessagesResponse = await _told(self._office.resume(caller, request))
        self._instance.overtake()
        return answer

    async def messages_after(
        self, caller: Caller, name: str, after: int, size: int
    ) -> Sequence[Message]:
        request = pb.ListMessagesRequest(
            conversation_id=name, after_sequence=after, page_size=SMALL
        )
        answer: pb.ListMessagesResponse = await _told(self._office.list(caller, request))
        self._instance.overtake()
        return answer.messages

    async def tails(self, tenant: str, names: Sequence[str]) -> Sequence[pb.Tail]:
        answer = await _told(self._office.tails(tenant, names))
        self._instance.overtake()
        return sorted(answer, key=lambda tail: tail.conversation_id)


SMALL = 7
"""Messages a page: few, so that there are many pages."""


class Followed:
    """Redis knows at once who follows what."""

    async def follow(self, tenant_id: str, *, conversation_id: str = "", subject: str = "") -> None:
        pass

    def unfollow(self, tenant_id: str, *, conversation_id: str = "", subject: str = "") -> None:
        pass


def _joined(subscription: Subscription) -> None:
    """Tell nobody that somebody is there."""


def _on_no_desk(caller: Caller, name: str) -> bool:
    """Wait for no assignment: it comes when the simulation delivers it."""
    return False


async def _told(call: Any) -> Any:
    """Return the answer of a call, or raise its error as gRPC does."""
    try:
        return await call
    except InterchangeError as error:
        details = error.to_status().SerializeToString()
        raise AioRpcError(
            *(error.status, Metadata(), Metadata((DETAILS, details)), error.message)
        ) from None
    except OSError as error:
        raise AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(), str(error)) from None
