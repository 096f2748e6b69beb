"""Both sides of a chat, with a screen and a client that are none."""

import asyncio
import io
import os
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from services.gateway.client import (
    Connected,
    Desk,
    Disconnected,
    Marks,
    Message,
    Presence,
    Refused,
    Subscribed,
    Typing,
    Unsubscribed,
)
from services.gateway.frames_out import MarkOf, OfferOf, Sender, SystemNote
from services.stack.chat import AgentChat, CustomerChat
from services.stack.prompt import Prompt

NOW = datetime(2026, 1, 5, tzinfo=UTC)
CARA, ANA = Sender("customer", "cara"), Sender("agent", "ana")


class Screen:
    def __init__(self, *lines: str) -> None:
        self.shown: list[str] = []
        self.noted: list[str] = []
        self.lines = list(lines)
        self.more = asyncio.Event()

    async def line(self) -> str | None:
        if not self.lines:
            await self.more.wait()
            return None
        await asyncio.sleep(0.005)
        return self.lines.pop(0)

    def show(self, text: str) -> None:
        self.shown.append(text)

    def note(self, text: str) -> None:
        self.noted.append(text)


class FakeClient:
    """Notes what it is asked, and says what it was told to say."""

    def __init__(self) -> None:
        self.asked: list[tuple] = []
        self.events: asyncio.Queue = asyncio.Queue()
        self.refuse: Refused | None = None

    def __getattr__(self, name: str):
        def note(*words, **more):
            self.asked.append((name, *words))

        async def ask(*words, **more):
            note(*words)
            if self.refuse is not None:
                raise self.refuse
            return "c1"

        return note if name in ("mark", "typing") else ask

    async def __aiter__(self):
        while (event := await self.events.get()) is not None:
            yield event


def said(sequence: int, sender: Sender, text: str, conversation_id: str = "c1") -> Message:
    return Message(conversation_id, sequence, f"m{sequence}", sender, NOW, text=text)


def noted(sequence: int, kind: str, **more: str) -> Message:
    note = SystemNote(kind, **more)
    return Message("c1", sequence, f"m{sequence}", Sender("system"), NOW, system=note)


async def heard(chat, *events) -> list[str]:
    for event in events:
        await chat.hear(event)
    await asyncio.sleep(0.01)
    return chat.screen.shown


async def test_a_customer_sees_what_is_said_and_who_read_it():
    chat = CustomerChat(FakeClient(), Screen(), "cara")
    shown = await heard(
        chat,
        Connected("s", False),
        said(1, CARA, "hello"),
        noted(2, "queued"),
        noted(3, "agent_joined", agent_id="ana", agent_name="Ana"),
        Typing("c1", ANA, True),
        Typing("c1", ANA, False),
        said(4, ANA, "hi"),
        Marks("c1", (MarkOf(CARA, 4, 4), MarkOf(ANA, 4, 0))),
        Marks("c1", (MarkOf(ANA, 4, 4),)),
        Marks("c1", (MarkOf(ANA, 5, 5),)),
        Presence(online=("ana",)),
        Presence(offline=("ana",)),
        Disconnected(1012, "DRAINING", 1.0),
        Disconnected(1006, "HTTP_503", 2.0),
        Connected("s", True),
        Subscribed("c1", "e", False, 3, 4, "cara", "ana", False, (), ()),
        noted(5, "ended"),
    )
    assert shown == [
        "* connected",
        "me: hello",
        "* waiting for an agent",
        "* Ana joined",
        "ana: hi",
        "* read by ana",
        "* ana is there",
        "* ana is away",
        "* disconnected (DRAINING), coming back",
        "* connected again",
        "* what was said before is not all here",
        "* the conversation ended",
    ]
    assert chat.screen.noted == ["ana types …", "", ""]
    assert ("mark", "c1") in chat.client.asked


async def test_what_others_write_commands_no_terminal():
    chat = CustomerChat(FakeClient(), Screen(), "cara")
    shown = await heard(chat, said(1, ANA, "one\x1b]0;mine\x07\rtwo\nthree \U0001f600"))
    assert shown == ["ana: one�]0;mine��two\n  three \U0001f600"]


async def test_lines_are_sent_and_commands_are_done():
    client = FakeClient()
    screen = Screen("hello", "", "  ", "/human", "/end", "/what", "/quit", "never")
    chat = CustomerChat(client, screen, "cara")
    await chat.run(chat.begin("", "first", "Cara", queue=False))
    asked = [each[:3] for each in client.asked]
    assert asked == [
        ("start", "first"),
        ("send", "c1", "hello"),
        ("hand_off", "c1"),
        ("end", "c1"),
    ]
    assert screen.shown[-1] == chat.help


async def test_what_is_refused_is_shown():
    client = FakeClient()
    chat = CustomerChat(client, Screen("hello", "/end", "/quit"), "cara")
    chat.current = "c1"
    client.refuse = Refused("FAILED_PRECONDITION", "CONVERSATION_ENDED", "it is over")

    async def begin() -> None:
        pass

    await chat.run(begin())
    assert "! not sent: CONVERSATION_ENDED: it is over" in chat.screen.shown
    assert "! CONVERSATION_ENDED: it is over" in chat.screen.shown


@pytest.mark.parametrize("accept", [True, False])
async def test_an_agent_takes_what_is_offered(accept):
    client = FakeClient()
    chat = AgentChat(client, Screen(), "ana", accept=accept)
    offer = OfferOf("o1", "c1", "cara")
    shown = await heard(chat, Desk("ana", "online", (offer,), (), 1))
    assert shown == ["* offered: a conversation of cara"]
    if not accept:
        assert client.asked == []
        await chat.command("accept")
    assert client.asked == [("accept", "o1")]
    await heard(chat, Desk("ana", "online", (), ("c1",), 2), Desk("ana", "online", (), ("c1",), 3))
    assert client.asked[1:] == [("subscribe", "c1")]
    assert chat.current == "c1"


async def test_an_agent_has_several_conversations_and_loses_them():
    client = FakeClient()
    chat = AgentChat(client, Screen(), "ana", accept=True)
    await heard(chat, Desk("ana", "online", (), ("c1", "c2"), 1))
    await heard(chat, said(1, CARA, "one"), said(1, Sender("customer", "dan"), "two", "c2"))
    assert chat.screen.shown[-2:] == ["1 cara: one", "2 dan: two"]
    await chat.command("use", "2")
    assert chat.current == "c2"
    await chat.command("list")
    assert chat.screen.shown[-1] == "* 2: c2 <-"
    await chat.command("transfer")
    await chat.command("away")
    assert client.asked[-2:] == [("transfer", "c2"), ("status", "away")]
    await heard(chat, Unsubscribed("c2", "NOT_YOURS"))
    assert chat.current == "c1"
    await heard(chat, Desk("ana", "online", (), (), 2))
    assert chat.current == ""
    chat._send("to nobody")
    assert chat.screen.shown[-1] == "! there is no conversation"


class Terminal(Prompt):
    """A prompt whose terminal is a buffer."""

    def __init__(self, monkeypatch) -> None:
        self.out = io.StringIO()
        monkeypatch.setattr("sys.stdin", SimpleNamespace(fileno=lambda: 99))
        monkeypatch.setattr("sys.stdout", self.out)
        size = os.terminal_size((30, 10))
        monkeypatch.setattr(os, "get_terminal_size", lambda *_: size)
        super().__init__()
        self.terminal = True


async def test_keys_edit_the_line_and_tell_who_types(monkeypatch):
    prompt = Terminal(monkeypatch)
    told: list[bool] = []
    prompt.typed = told.append
    prompt._take("ab\x7fc\x1b[D\x15x\u00e9\n".encode())
    assert await prompt.line() == "xé"
    assert told == [True, False, True, False]
    prompt._take(b"/end\n")
    assert await prompt.line() == "/end"
    assert len(told) == 4
    prompt._take(b"y" * 100)
    assert prompt.out.getvalue().endswith("> " + "y" * 26)
    prompt.note("ana types …")
    prompt.show("ana: hello")
    assert "ana: hello\n" in prompt.out.getvalue()
    prompt._take(b"\x03")
    assert await prompt.line() is None


async def test_lines_that_are_piped_come_whole(monkeypatch):
    prompt = Terminal(monkeypatch)
    prompt.terminal = False
    whole = "grüße\r\nlast".encode()
    for byte in whole:
        prompt._take(bytes([byte]))
    prompt._take(b"")
    assert [await prompt.line() for _ in range(3)] == ["grüße", "last", None]
    prompt.show("seen")
    prompt.note("not seen")
    assert prompt.out.getvalue() == "seen\n"
