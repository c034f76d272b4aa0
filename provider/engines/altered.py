"""Streamed answers of which the chunks are altered on their way, as one that is gone on with needs it."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import orjson

from common.wire import Usage
from provider.protocol.engine import EngineAnswer
from provider.protocol.events import EventSplitter, data_of
from provider.protocol.framing import Framing, framing_of


class Alteration(Protocol):
    """What is done to the chunks of one answer."""

    @property
    def is_over(self) -> bool:
        """Whether the rest may pass as it is."""
        ...

    def __call__(self, chunk: dict[str, Any]) -> dict[str, Any]:
        """A chunk, altered; it may be the same object.

        Raises:
            LookupError, TypeError, AttributeError: it is no chunk of the kind, and passes as it is.
        """
        ...


class Reworded:
    """Every chunk in other words."""

    is_over = False

    def __init__(self, reword: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._reword = reword

    def __call__(self, chunk: dict[str, Any]) -> dict[str, Any]:
        """The chunk in the other words."""
        return self._reword(chunk)


class BlanksOnce:
    """The blanks that an engine begins with, as far as the client has them already.

    Many chat templates trim what is gone on with. So the blanks at its end are not shown to the engine at all, and what
    it says first is likely to be these.
    """

    def __init__(self, blanks: str) -> None:
        self._blanks = blanks

    @property
    def is_over(self) -> bool:
        """Whether all were found, or something else."""
        return not self._blanks

    def __call__(self, chunk: dict[str, Any]) -> dict[str, Any]:
        """A chunk of any of the APIs without the blanks that it repeats."""
        if not self._blanks:
            return chunk
        holder = chunk["choices"][0] if "choices" in chunk else chunk
        for name in ("delta", "message"):
            holder = holder.get(name) or holder
        place = next(name for name in ("content", "text", "response") if name in holder)
        text = holder[place] or ""
        same = 0
        while same < min(len(text), len(self._blanks)) and text[same] == self._blanks[same]:
            same += 1
        self._blanks = self._blanks[same:] if same == len(text) else ""
        holder[place] = text[same:]
        return chunk


class AlteredAnswer:
    """An answer whose chunks are altered, one alteration after the other."""

    def __init__(self, answer: EngineAnswer, alterations: list[Alteration], max_event_bytes: int) -> None:
        self._answer = answer
        self._alterations = alterations
        self._max_event_bytes = max_event_bytes
        self.status = answer.status
        self.content_type = answer.content_type

    @property
    def usage(self) -> Usage | None:
        """What an event told that is hidden from the client, once it came."""
        return self._answer.usage

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes, in whole events or lines.

        Raises:
            EngineBroke: the connection was lost before the end, or an event is longer than allowed.
        """
        framing = framing_of(self.content_type, self._max_event_bytes)
        async for chunk in self._answer.chunks():
            if framing is None:
                yield chunk
            elif block := framing.feed(chunk):
                yield self._altered(block, framing)
        if framing is not None and (rest := framing.finish()):
            yield self._altered(rest, framing)

    def _altered(self, block: bytes, framing: Framing) -> bytes:
        left = [alter for alter in self._alterations if not alter.is_over]
        return b"".join([_alter(frame, framing, left) for frame in framing.split(block)]) if left else block


def _alter(frame: bytes, framing: Framing, alterations: list[Alteration]) -> bytes:
    is_event = isinstance(framing, EventSplitter)
    payload = (data_of(frame) if is_event else frame).strip()
    if not payload.startswith(b"{"):
        return frame
    try:
        chunk = orjson.loads(payload)
        for alter in alterations:
            chunk = alter(chunk)
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration):
        return frame
    return (b"data: %b\n\n" if is_event else b"%b\n") % orjson.dumps(chunk)
