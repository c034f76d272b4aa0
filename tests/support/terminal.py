"""A program in a terminal of its own, as a person would run it: keys go in, and what it paints can be waited for."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from tests.support.processes import PROJECT, python

TAKE_TERMINAL = python(
    "-ISc",
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execvp(sys.argv[1], sys.argv[1:])",
)
"""Becomes the program, with the terminal on its standard input as its own, so that Ctrl-C reaches it."""
ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[=>78]|\][^\x07]*\x07)")
AGAIN_S = 3.0
"""A second Ctrl-C that comes while Python takes itself apart kills it."""


class Terminal:
    """Starts the program; what it printed is read while something is waited for."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], *, columns: int = 80, lines: int = 24) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        mine = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")}  # pytest-xdist's
        self.process = subprocess.Popen(
            [*TAKE_TERMINAL, *argv], cwd=PROJECT, env=mine, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        self.raw = ""
        self._seen = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)

    @property
    def text(self) -> str:
        """All that it printed so far, without what moves and colours."""
        return ESCAPES.sub("", self.raw).replace("\r", "")

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Give it another size, as a window that is drawn larger."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def until(self, wanted: str, within_s: float = 10.0) -> None:
        """Read until this is painted, behind what was waited for before; fails with what was painted instead."""
        limit = time.monotonic() + within_s
        while (place := self.text.find(wanted, self._seen)) < 0:
            if not self._read(limit):
                raise AssertionError(f"{wanted!r} is not painted within {within_s} s, but:\n{self.text[-3000:]}")
        self._seen = place + len(wanted)

    def interrupt_until_end(self, within_s: float = 10.0) -> int:
        """Press Ctrl-C as a person does, again if nothing happens: Python loses one that comes just before it waits."""
        limit = time.monotonic() + within_s
        while self.process.poll() is None and time.monotonic() < limit:
            self.type("\x03")
            pause = time.monotonic() + AGAIN_S
            while self._read(min(pause, limit)):
                pass
        return self.ends()

    def ends(self, within_s: float = 10.0) -> int:
        """Its exit code, once it has ended."""
        limit = time.monotonic() + within_s
        while self._read(limit):
            pass
        return self.process.wait(max(0.1, limit - time.monotonic()))

    def _read(self, limit: float) -> bool:
        """Whether something came, or may come yet."""
        ready, _, _ = select.select([self._ours], [], [], max(0.0, limit - time.monotonic()))
        if not ready:
            return False
        with contextlib.suppress(OSError):  # EIO: the program has closed its side
            if came := os.read(self._ours, 65536):
                self.raw += came.decode(errors="replace")
                return True
        return False
