"""The gateway behind Envoy, over the real services: sockets, and two terminals that chat."""

import asyncio
import base64
import os
import re
import sys
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.gateway.client import Client, Message, Subscribed
from services.stack.stack import Stack
from tests.integration.test_gateway_scene import Raw, new_id, until

TENANT = "spoken"
CHAT_TENANT = "chatty"
"""Of the terminals: what waits for an agent elsewhere must not come to theirs."""
PATIENCE_S = 40.0


def url(stack: Stack) -> str:
    return stack.edge_url.replace("http", "ws", 1) + "/v1/ws"


def customer(stack: Stack, subject: str = "cara", tenant: str = TENANT) -> str:
    return stack.token(tenant, ["customer"], subject)


@pytest.fixture(scope="module", autouse=True)
async def open_door(stack):
    """Wait until sessions can be opened: right after a start not all have found each other."""
    async with Client(url(stack), customer(stack)):
        pass


async def test_a_token_passes_the_door_in_each_way(stack):
    bearer = customer(stack)
    for address, headers, hello in (
        (url(stack), {"Authorization": f"Bearer {bearer}"}, {}),
        (f"{url(stack)}?access_token={bearer}", {}, {}),
        (url(stack), {"Sec_WebSocket_Protocol": f"interchange.v1, bearer.{bearer}"}, {}),
        (url(stack), {}, {"token": bearer}),
    ):
        raw = await Raw.open(address, **headers)
        raw.say(type="hello", **hello)
        assert (await raw.next("welcome"))["subject"] == "cara"
        raw.say(type="bye")
        assert await raw.end() == (1000, "BYE")


async def test_nobody_says_who_he_is_past_the_door(stack):
    headers = {
        "X_Interchange_Tenant": TENANT,
        "X_Interchange_Subject": "cara",
        "X_Interchange_Roles": "supervisor",
        "X_Interchange_Expires": "9999999999",
    }
    raw = await Raw.open(url(stack), **headers)
    raw.say(type="hello")
    assert (await raw.next())["reason"] == "TOKEN_MISSING"
    assert await raw.end() == (4401, "TOKEN_MISSING")


async def test_a_browser_that_also_wants_to_keep_its_connection_is_let_in(stack):
    """Firefox asks for `Connection: keep-alive, Upgrade`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.settings.edge_port)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        (
            "GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        ).encode()
    )
    assert b" 101 " in await asyncio.wait_for(reader.readline(), 5)
    writer.close()


async def test_messages_go_there_and_back_and_are_kept(stack):
    async with Client(url(stack), customer(stack)) as cara:
        conversation_id = await cara.start("hello", route="queue")
        sent = [await cara.send(conversation_id, f"number {n}") for n in range(20)]
        assert [each.sequence for each in sent] == sorted({each.sequence for each in sent})
        seen = []
        async for event in cara:
            if isinstance(event, Message):
                seen.append(event)
            if len(seen) == sent[-1].sequence:
                break
        assert [each.sequence for each in seen] == list(range(1, sent[-1].sequence + 1))
        assert [each.text for each in seen if each.text][:2] == ["hello", "number 0"]
        place = cara.position(conversation_id)
    async with Client(url(stack), customer(stack)) as later:
        subscribed = await later.subscribe(conversation_id, *place)
        assert subscribed.recovered
    async with Client(url(stack), customer(stack)) as lost:
        subscribed = await lost.subscribe(conversation_id, 10_000, place[1])
        assert not subscribed.recovered
        events = lost.__aiter__()
        while not isinstance(event := await anext(events), Subscribed):
            pass
        assert isinstance(await anext(events), Message)
        assert event.last_sequence == sent[-1].sequence


async def test_of_two_tenants_none_hears_the_other(stack):
    async with Client(url(stack), customer(stack)) as ours:
        conversation_id = await ours.start("for us")
        theirs = await Raw.open(
            url(stack), Authorization=f"Bearer {customer(stack, tenant='other')}"
        )
        theirs.say(type="hello")
        await theirs.next("welcome")
        for unknown in (conversation_id, new_id()):
            theirs.say(type="subscribe", conversation_id=unknown)
        told = [(await theirs.next(timeout_s=PATIENCE_S))["reason"] for _ in range(2)]
        # So young an id may just not be known yet: theirs looks like one that nobody has.
        assert told[0] == told[1]


class Terminal:
    """`interchange chat` with its lines piped."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.shown: list[str] = []
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for line in self.process.stdout:
            self.shown.append(line.decode().rstrip("\n"))

    def type(self, line: str) -> None:
        self.process.stdin.write(f"{line}\n".encode())

    async def sees(self, pattern: str) -> re.Match[str]:
        def found() -> re.Match[str] | None:
            return next(filter(None, (re.search(pattern, line) for line in self.shown)), None)

        try:
            await until(found, PATIENCE_S)
        except TimeoutError:
            raise AssertionError(f"{pattern!r} not in {self.shown}") from None
        match = found()
        assert match is not None
        return match

    def said(self) -> list[str]:
        return [line for line in self.shown if re.match(r"\w+: ", line)]


@asynccontextmanager
async def terminal(stack: Stack, *arguments: str):
    environment = {
        **os.environ,
        "INTERCHANGE_DATA_DIR": str(stack.settings.data_dir),
        "INTERCHANGE_PORT_OFFSET": str(stack.settings.port_offset),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.stack.cli",
        "chat",
        "--tenant",
        CHAT_TENANT,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
    )
    opened = Terminal(process)
    try:
        yield opened
    finally:
        if process.returncode is None:
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 15)
            except TimeoutError:
                process.kill()
        await opened.reading


async def test_two_terminals_talk_while_the_gateway_is_killed(stack):
    loop = asyncio.get_running_loop()
    async with terminal(stack, "--agent", "ana") as ana:
        await ana.sees("ana is online")
        async with terminal(stack, "--customer", "cara", "--queue") as cara:
            await cara.sees("Ana joined")
            await ana.sees("is yours")
            cara.type("good day")
            await ana.sees("cara: good day")
            ana.type("how can I help?")
            await cara.sees("ana: how can I help")
            await ana.sees("read by cara")
            await loop.run_in_executor(None, stack.kill, "gateway")
            cara.type("while nobody listens")
            await cara.sees("disconnected")
            await ana.sees("disconnected")
            ana.type("neither here")
            await loop.run_in_executor(None, lambda: stack.up(only=["gateway"]))
            for side in (ana, cara):
                await side.sees("connected again")
            await ana.sees("cara: while nobody listens")
            await cara.sees("ana: neither here")
            cara.type("thank you")
            await ana.sees("cara: thank you")
            ana.type("/end")
            await cara.sees("the conversation ended")
            await ana.sees("no longer yours")
    lines = ["good day", "how can I help?", "thank you", "while nobody listens", "neither here"]
    for side in (ana, cara):
        assert sorted(line.partition(": ")[2] for line in side.said()) == sorted(lines)
        assert (ana.process.returncode, cara.process.returncode) == (0, 0)


async def test_a_stranger_is_told_what_to_do(stack, tmp_path):
    environment: dict[str, Any] = {
        **os.environ,
        "INTERCHANGE_DATA_DIR": str(tmp_path / "none"),
        "INTERCHANGE_EDGE_PORT": "1",
        "INTERCHANGE_PORT_OFFSET": "0",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.stack.cli",
        "chat",
        "--agent",
        "ana",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert b"interchange status" in output
