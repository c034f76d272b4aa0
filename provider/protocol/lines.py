"""Cuts a byte stream into whole lines of JSON, as Ollama's own paths send them."""

from typing import Any

import orjson

from common.wire import Usage
from provider.protocol.failures import read_error_line, too_long
from provider.protocol.usage import read_lines_usage


class LineSplitter:
    """Lines of JSON, as Ollama's own paths stream them."""

    end = b"\n"
    read_error = staticmethod(read_error_line)

    def __init__(self, max_line_bytes: int) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._max_line_bytes = max_line_bytes

    def feed(self, chunk: bytes) -> bytes:
        """Every line that is complete with this chunk, in one piece; empty if none is.

        Raises:
            EngineBroke: a line is longer than allowed.
        """
        if not self._parts and chunk.endswith(b"\n"):
            return chunk
        end = chunk.rfind(b"\n") + 1
        lines = b"".join([*self._parts, chunk[:end]]) if end else b""
        if end:
            self._parts, self._size = [], 0
        if end < len(chunk):
            self._parts.append(chunk[end:])
            self._size += len(chunk) - end
            if self._size > self._max_line_bytes:
                raise too_long("a line", self._max_line_bytes)
        return lines

    def finish(self) -> bytes:
        """What is left when the stream ends: a line without its end, or nothing."""
        rest, self._parts = b"".join(self._parts), []
        return rest

    def is_silence(self, block: bytes) -> bool:
        """Whether these are blank lines."""
        return not block.strip()

    def is_opening(self, block: bytes) -> bool:
        """Whether none of these lines says a word, nor that it is the last."""
        try:
            return not any(_says_something(orjson.loads(line)) for line in block.splitlines() if line.strip())
        except (ValueError, AttributeError):
            return False

    def split(self, block: bytes) -> list[bytes]:
        """The lines one by one, each with its end."""
        return block.splitlines(keepends=True)

    def read_usage(self, tail: bytes, _opening: bytes) -> Usage:
        """From the last line that tells it."""
        return read_lines_usage(tail)

    def is_end(self, block: bytes) -> bool:
        """Whether the last line is the one that says `done`."""
        return b"true" in block and not self.is_broken_off(block)

    def is_broken_off(self, tail: bytes) -> bool:
        """Whether the last line isn't the one that says `done`."""
        try:
            return orjson.loads(tail.rstrip().rpartition(b"\n")[2]).get("done") is not True
        except (ValueError, AttributeError):
            return True


def _says_something(line: dict[str, Any]) -> bool:
    said = {**line, **(line.get("message") or {})}
    return bool(line.get("done")) or any(
        said.get(name) for name in ("content", "response", "thinking", "tool_calls", "images", "error")
    )
