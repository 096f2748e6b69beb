"""A prompt in a terminal that news may interrupt; lines, where there is no terminal."""

import asyncio
import codecs
import os
import sys
import termios
import threading
import tty
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

CLEAR = "\r\x1b[K"
END_OF_INPUT = "\x04"
INTERRUPT = "\x03"
ERASE = ("\x7f", "\x08")
ERASE_LINE = "\x15"
ESCAPE = "\x1b"
READ_BYTES = 4096
LINE_MAX = 8_000


class Prompt:
    """Reads lines from standard input while it shows what comes. Use as `with`.

    In a terminal it edits the line itself: what is typed stays below what is shown,
    and `typed` hears of the first letter. From a pipe it takes lines as they come.
    """

    def __init__(self, sign: str = "> ") -> None:
        self._sign = sign
        self.typed: Callable[[bool], None] = lambda typing: None
        """Told when a line is begun, and when it is sent or taken back."""
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._line = ""
        self._note = ""
        self._file = sys.stdin.fileno()
        self._saved: list[Any] | None = None
        self._escaped = False
        self.terminal = os.isatty(self._file) and sys.stdout.isatty()

    def __enter__(self) -> Self:
        """Take the terminal over."""
        if self.terminal:
            self._saved = termios.tcgetattr(self._file)
            tty.setcbreak(self._file)
            # Ctrl-C comes as a letter: the terminal must be given back first.
            changed = termios.tcgetattr(self._file)
            changed[3] &= ~termios.ISIG
            termios.tcsetattr(self._file, termios.TCSADRAIN, changed)
        # A thread of its own, for input may be a file, of which no loop tells when it is
        # ready; a daemon, for nobody can end a read.
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(loop,), daemon=True).start()
        self._draw()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the terminal back."""
        if self._saved is not None:
            sys.stdout.write(CLEAR)
            sys.stdout.flush()
            termios.tcsetattr(self._file, termios.TCSADRAIN, self._saved)

    async def line(self) -> str | None:
        """Return the next line, or None at the end of the input."""
        return await self._lines.get()

    def show(self, text: str) -> None:
        """Show a line above what is being typed."""
        if self.terminal:
            sys.stdout.write(f"{CLEAR}{text}\n")
            self._draw()
        else:
            print(text, flush=True)

    def note(self, text: str) -> None:
        """Show something for the moment, beside the prompt; nothing where lines are piped."""
        if self.terminal and text != self._note:
            self._note = text
            self._draw()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        data = b" "
        while data:
            try:
                data = os.read(self._file, READ_BYTES)
            except OSError:
                data = b""
            with suppress(RuntimeError):  # The loop is closed: nobody listens any more.
                loop.call_soon_threadsafe(self._take, data)

    def _take(self, data: bytes) -> None:
        text = self._decoder.decode(data, final=not data)
        for letter in text:
            if self.terminal:
                self._press(letter)
            elif letter == "\n":
                self._enter()
            else:
                self._line += letter
        if not data:
            if self._line:
                self._enter()
            self._lines.put_nowait(None)

    def _press(self, letter: str) -> None:
        """Edit the line by one key."""
        before = self._composing
        if self._escaped:
            # Arrows and their like: `ESC [`, parameters, a letter.
            self._escaped = not (letter.isalpha() or letter == "~")
        elif letter == ESCAPE:
            self._escaped = True
        elif letter == "\n":
            self._enter()
        elif letter in (END_OF_INPUT, INTERRUPT):
            self._lines.put_nowait(None)
        elif letter in ERASE:
            self._line = self._line[:-1]
        elif letter == ERASE_LINE:
            self._line = ""
        elif letter.isprintable() and len(self._line) < LINE_MAX:
            self._line += letter
        if self._composing != before:
            self.typed(self._composing)
        self._draw()

    @property
    def _composing(self) -> bool:
        """True while a line is typed that is not a command."""
        return bool(self._line) and not self._line.startswith("/")

    def _enter(self) -> None:
        line, self._line = self._line, ""
        self._lines.put_nowait(line.rstrip("\r"))

    def _draw(self) -> None:
        if self.terminal:
            note = f"\x1b[2m{self._note}\x1b[0m " if self._note else ""
            # Of a line longer than the terminal only the end is shown: it must stay one row.
            room = max(10, os.get_terminal_size().columns - len(self._note) - len(self._sign) - 2)
            sys.stdout.write(f"{CLEAR}{note}{self._sign}{self._line[-room:]}")
            sys.stdout.flush()
