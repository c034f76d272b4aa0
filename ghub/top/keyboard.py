"""Single keys of a terminal, without Enter; nothing where there is no terminal to read from."""

import os
import select
import sys
import termios
import time
import tty
from contextlib import suppress
from types import TracebackType
from typing import Any, Self


class Keyboard:
    """Keys while it is entered; the terminal is afterwards as it was."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        if sys.stdin is not None and sys.stdin.isatty():
            with suppress(OSError, termios.error):  # it may be gone
                number = sys.stdin.fileno()
                self._before = termios.tcgetattr(number)
                tty.setcbreak(number)
                self._number = number
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._number is not None:
            with suppress(OSError, termios.error):
                termios.tcsetattr(self._number, termios.TCSADRAIN, self._before)

    def key_within(self, seconds: float) -> str:
        """The next key; empty if none comes in time."""
        if self._number is None:
            time.sleep(seconds)
            return ""
        ready, _, _ = select.select([self._number], [], [], seconds)
        if not ready:
            return ""
        pressed = os.read(self._number, 64)
        if not pressed:  # the terminal is gone
            self._number = None
        return pressed.decode("utf-8", errors="replace")
