"""The terminal of a conversation: a line editor where there is one, and a line that comes and goes while one waits."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from ghub.chat.wrapping import Wrapping
from ghub.showing.printable import printable

DIM, BOLD, RED, PLAIN = "\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[0m"
ERASE_LINE = "\r\x1b[2K"


class Terminal:
    """Reads lines and paints; colours only where they are wanted."""

    def __init__(self) -> None:
        self._is_seen = sys.stdout.isatty()
        self._has_colors = self._is_seen and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._can_erase = self._is_seen and os.environ.get("TERM") != "dumb"
        self._status = ""
        self._is_at_start = True
        """Whether the cursor is at the beginning of a line."""
        self._wrapping = Wrapping(_columns)
        if sys.stdin is not None and hasattr(sys.stdin, "reconfigure"):
            sys.stdin.reconfigure(errors="replace")  # a stray byte ends no conversation

    def use_line_editor(self, words: Callable[[str], Sequence[str]]) -> None:
        """Have lines edited and remembered, and completed to one of the words, where this Python can."""
        with suppress(ImportError):
            import readline  # noqa: PLC0415 - not every Python has it

            def complete(_: str, number: int) -> str | None:
                fitting = [*words(readline.get_line_buffer())]
                return fitting[number] if number < len(fitting) else None

            readline.set_completer(complete)
            readline.set_completer_delims("\n")
            is_libedit = "libedit" in (readline.__doc__ or "")
            readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")

    def read_line(self, prompt: str) -> str:
        """One line of the person's; EOFError at the end of input."""
        if not self._is_seen:  # a prompt is no part of what goes to a file
            sys.stderr.write(prompt)
            sys.stderr.flush()
            return input()
        if self._has_colors:  # the marks tell the line editor what takes no place
            prompt = f"\x01{BOLD}\x02{prompt}\x01{PLAIN}\x02"
        return input(prompt)

    def say(self, text: str, *, is_dim: bool = False) -> None:
        """Print a piece of what the model says, already harmless."""
        if not text:
            return
        self.clear_status()
        shown = self._wrapping.feed(text) if self._can_erase else text
        sys.stdout.write(self._painted(DIM, shown) if is_dim else shown)
        sys.stdout.flush()
        self._is_at_start = text.endswith("\n")

    def end_line(self) -> None:
        """Begin a new line unless the cursor stands there."""
        self.clear_status()
        if not self._is_at_start:
            sys.stdout.write("\n")
        self._wrapping, self._is_at_start = Wrapping(_columns), True

    def note(self, text: str) -> None:
        """Print lines about the conversation."""
        self._print(DIM, text)

    def warn(self, text: str) -> None:
        """Print lines about what went wrong."""
        self._print(RED, text)

    def _print(self, color: str, text: str) -> None:
        self.end_line()
        sys.stdout.write(self._painted(color, text) + "\n")
        sys.stdout.flush()

    def show_status(self, text: str) -> None:
        """Say in passing why nothing is said yet."""
        if not self._can_erase or not self._is_at_start:
            return
        width = max(10, _columns() - 1)
        self._status = printable(text)[:width]
        sys.stdout.write(ERASE_LINE + self._painted(DIM, self._status))
        sys.stdout.flush()

    def clear_status(self) -> None:
        """Take that back."""
        if self._status:
            self._status = ""
            sys.stdout.write(ERASE_LINE)
            sys.stdout.flush()

    def _painted(self, color: str, text: str) -> str:
        return f"{color}{text}{PLAIN}" if self._has_colors and text else text


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        return 80
