"""A conversation in a terminal: a customer's side, and an agent's."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Protocol

from services.gateway.client import (
    Client,
    ClientError,
    Connected,
    Desk,
    Disconnected,
    Error,
    Event,
    Marks,
    Message,
    Presence,
    Refused,
    Subscribed,
    Typing,
    Unsubscribed,
)
from services.gateway.frames_out import OfferOf, SystemNote

SEND_TIMEOUT_S = 120.0
"""How long a message is tried: a gateway may be starting again."""
SYSTEM = {
    "queued": "waiting for an agent",
    "agent_joined": "{agent} joined",
    "ended": "the conversation ended",
    "reopened": "the conversation goes on",
}


class Screen(Protocol):
    """Where a chat is shown, and lines come from (`prompt.Prompt`)."""

    async def line(self) -> str | None:
        """Return the next line, or None at the end."""

    def show(self, text: str) -> None:
        """Show a line."""

    def note(self, text: str) -> None:
        """Show something for the moment."""


class Chat:
    """What both sides have in common: lines go out, events are shown."""

    help = "/end ends the conversation, /quit leaves"

    def __init__(self, client: Client, screen: Screen, me: str) -> None:
        self.client = client
        self.screen = screen
        self.me = me
        self.current = ""
        """The conversation that lines go to."""
        self._connected = False
        self._last_mine: dict[str, int] = {}
        self._told_read: dict[str, int] = {}
        self._working: set[asyncio.Task[None]] = set()

    async def run(self, begin: Coroutine[Any, Any, None]) -> None:
        """Talk until the input ends; `begin` comes first, while events are heard already."""
        listening = asyncio.create_task(self._listen())
        reading = asyncio.create_task(self._read(begin))
        done, _ = await asyncio.wait({listening, reading}, return_when=asyncio.FIRST_COMPLETED)
        if self._working:
            await asyncio.wait(self._working, timeout=SEND_TIMEOUT_S)
        for task in (listening, reading):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        for task in done:
            task.result()

    def typed(self, typing: bool) -> None:
        """Take that the user began, or ceased, to type."""
        if self.current:
            self.client.typing(self.current, typing)

    async def _read(self, begin: Coroutine[Any, Any, None]) -> None:
        await begin
        while (line := await self.screen.line()) is not None:
            text = line.strip()
            if text == "/quit":
                return
            try:
                if text.startswith("/"):
                    await self.command(*text[1:].split())
                elif text:
                    self._send(text)
            except (ClientError, TimeoutError) as error:
                self.screen.show(f"! {error or 'no answer'}")

    async def command(self, name: str = "", *words: str) -> None:
        """Do what a line with a slash asks for."""
        if name == "end" and self.current:
            await self.client.end(self.current)
        else:
            self.screen.show(self.help)

    def _send(self, text: str) -> None:
        if not self.current:
            self.screen.show("! there is no conversation")
            return
        self._spawn(self._sent(self.current, text))

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(self._told(work))
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _told(self, work: Coroutine[Any, Any, object]) -> None:
        """Do some work and show why it failed."""
        try:
            await work
        except (ClientError, TimeoutError) as error:
            self.screen.show(f"! {error or 'no answer'}")

    async def _sent(self, conversation_id: str, text: str) -> None:
        try:
            await self.client.send(conversation_id, text, timeout_s=SEND_TIMEOUT_S)
        except Refused as error:
            self.screen.show(f"! not sent: {error}")
        except (ClientError, TimeoutError):
            self.screen.show(f"! perhaps not sent: {text}")

    async def _listen(self) -> None:
        async for event in self.client:
            await self.hear(event)

    async def hear(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, Message):
            self._hear_message(event)
        elif isinstance(event, Marks):
            self._hear_marks(event)
        elif isinstance(event, Typing):
            who = event.sender.id
            self.screen.note(f"{who} types …" if event.typing else "")
        elif isinstance(event, Presence):
            for who in event.online:
                self.screen.show(f"* {who} is there")
            for who in event.offline:
                self.screen.show(f"* {who} is away")
        elif isinstance(event, Subscribed) and not event.recovered:
            self.screen.show("* what was said before is not all here")
        elif isinstance(event, Disconnected):
            if self._connected:
                self.screen.show(f"* disconnected ({event.reason or event.code}), coming back")
            self._connected = False
        elif isinstance(event, Connected):
            self.screen.show("* connected again" if event.resumed else "* connected")
            self._connected = True
        elif isinstance(event, Error):
            self.screen.show(f"! {event.reason}: {event.message}")

    def _hear_message(self, message: Message) -> None:
        conversation_id = message.conversation_id
        if message.system is not None:
            self.screen.show(f"* {_system(message.system)}")
        else:
            mine = message.sender.id == self.me
            content = message.text
            if message.attachment is not None:
                content = f"[{message.attachment.name or 'file'}] {message.attachment.uri}"
            who = "me" if mine else message.sender.id
            self.screen.show(f"{self.label(conversation_id)}{who}: {_clean(content or '')}")
            if mine:
                self._last_mine[conversation_id] = message.sequence
            else:
                self.screen.note("")
        # What is on the screen is read.
        self.client.mark(conversation_id, read=message.sequence)

    def _hear_marks(self, event: Marks) -> None:
        last = self._last_mine.get(event.conversation_id, 0)
        for mark in event.marks:
            others = mark.reader.id != self.me and mark.reader.kind in ("customer", "agent")
            told = self._told_read.get(event.conversation_id, 0)
            if others and last and mark.read >= last > told:
                self._told_read[event.conversation_id] = last
                self.screen.show(f"* read by {mark.reader.id}")

    def label(self, conversation_id: str) -> str:
        """Return what tells conversations apart, where there may be several."""
        return ""


class CustomerChat(Chat):
    """The side of who asks."""

    help = "/human asks for a person, /end ends the conversation, /quit leaves"

    async def command(self, name: str = "", *words: str) -> None:
        """Do what a line with a slash asks for."""
        if name == "human" and self.current:
            await self.client.hand_off(self.current)
        else:
            await super().command(name, *words)

    async def begin(self, conversation_id: str, text: str, name: str, *, queue: bool) -> None:
        """Start a conversation, or go on with one."""
        if conversation_id:
            await self.client.subscribe(conversation_id)
        else:
            conversation_id = await self.client.start(
                text, name=name, route="queue" if queue else "bot"
            )
        self.current = conversation_id
        self.screen.show(f"* conversation {conversation_id}; {self.help}")


class AgentChat(Chat):
    """The side of who answers: offers come, and are taken."""

    help = (
        "/accept and /decline answer an offer, /use N changes the conversation, /list shows "
        "them, /transfer hands it on, /end ends it, /away and /online, /quit leaves"
    )

    def __init__(self, client: Client, screen: Screen, me: str, *, accept: bool) -> None:
        super().__init__(client, screen, me)
        self._accept = accept
        self._mine: list[str] = []
        self._offers: dict[str, OfferOf] = {}
        self._answered: set[str] = set()

    async def begin(self) -> None:
        """Say that the agent takes conversations."""
        await self.client.status("online")
        self.screen.show(f"* {self.me} is online; {self.help}")

    async def command(self, name: str = "", *words: str) -> None:
        """Do what a line with a slash asks for."""
        if name in ("accept", "decline"):
            for offer_id in tuple(self._offers)[:1]:
                del self._offers[offer_id]
                await getattr(self.client, name)(offer_id)
        elif name in ("away", "online"):
            await self.client.status("away" if name == "away" else "online")
        elif name == "transfer" and self.current:
            await self.client.transfer(self.current)
        elif name == "use" and words and words[0].isdecimal():
            self.current = dict(enumerate(self._mine, 1)).get(int(words[0]), self.current)
            self.screen.show(f"* lines go to {self.label(self.current) or 1}")
        elif name == "list":
            for number, each in enumerate(self._mine, 1):
                here = " <-" if each == self.current else ""
                self.screen.show(f"* {number}: {each}{here}")
        else:
            await super().command(name, *words)

    async def hear(self, event: Event) -> None:
        """Show an event, and take what is offered."""
        if isinstance(event, Desk):
            await self._hear_desk(event)
        elif isinstance(event, Unsubscribed):
            self._let_go(event.conversation_id)
        else:
            await super().hear(event)

    async def _hear_desk(self, desk: Desk) -> None:
        for conversation_id in desk.conversation_ids:
            if conversation_id not in self._mine:
                self._mine.append(conversation_id)
                self.current = self.current or conversation_id
                number = f" (number {len(self._mine)})" if len(self._mine) > 1 else ""
                self.screen.show(f"* conversation {conversation_id} is yours{number}")
                self._spawn(self.client.subscribe(conversation_id))
        for conversation_id in set(self._mine) - set(desk.conversation_ids):
            self._let_go(conversation_id)
        offered = {offer.offer_id: offer for offer in desk.offers}
        self._offers = {key: offer for key, offer in offered.items() if key in self._offers}
        for offer_id, offer in offered.items():
            if offer_id in self._answered:
                continue
            self._answered.add(offer_id)
            self.screen.show(f"* offered: a conversation of {offer.customer_id}")
            if self._accept:
                self._spawn(self.client.accept(offer_id))
            else:
                self._offers[offer_id] = offer
                self.screen.note("/accept or /decline?")

    def _let_go(self, conversation_id: str) -> None:
        if conversation_id in self._mine:
            self._mine.remove(conversation_id)
            self.screen.show(f"* conversation {conversation_id} is no longer yours")
        if self.current == conversation_id:
            self.current = self._mine[0] if self._mine else ""

    def label(self, conversation_id: str) -> str:
        """Return the number of a conversation, when there are several."""
        if len(self._mine) < 2 or conversation_id not in self._mine:
            return ""
        return f"{self._mine.index(conversation_id) + 1} "


def _system(note: SystemNote) -> str:
    return SYSTEM[note.kind].format(agent=_clean(note.agent_name or note.agent_id))


def _clean(text: str) -> str:
    """Return a text without what a terminal would obey: others wrote it."""
    lines = (
        "".join(each if each.isprintable() else "�" for each in line) for line in text.split("\n")
    )
    return "\n  ".join(lines)
