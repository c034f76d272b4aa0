"""Reads a stream of server-sent events as it arrives, byte by byte wherever it is cut."""

from array import array
from dataclasses import dataclass, field
from typing import Any

import orjson


@dataclass(slots=True)
class Heard:
    """What one client has heard of one answer so far."""

    words: list[str] = field(default_factory=list)
    """The tokens' texts in the order in which they came."""
    times_s: "array[float]" = field(default_factory=lambda: array("d"))
    """When each came."""
    has_reason: bool = False
    """Whether the answer said why it ends."""
    is_done: bool = False
    """Whether `[DONE]` came."""
    after_done: int = 0
    """Events after `[DONE]`, of which there must be none."""
    completion_tokens: int | None = None
    """What the answer itself counts."""
    error_code: str = ""
    last_id: str = ""
    """Of the last whole event that had one: where to go on."""

    @property
    def text(self) -> str:
        """All that was said."""
        return "".join(self.words)

    @property
    def is_finished(self) -> bool:
        """Whether it ended as an answer should: with a reason, then `[DONE]`, then nothing."""
        return self.has_reason and self.is_done and not self.after_done and not self.error_code


class EventReader:
    """Takes the bytes of one connection; a new connection needs a new one, since half an event dies with the old."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        self._rest = b""

    def feed(self, data: bytes, now_s: float) -> None:
        """Read what has come at this time."""
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            self._read(event, now_s)

    def _read(self, event: bytes, now_s: float) -> None:
        heard = self._heard
        for line in event.split(b"\n"):
            if line.startswith(b"data: "):
                if heard.is_done:
                    heard.after_done += 1
                elif line == b"data: [DONE]":
                    heard.is_done = True
                else:
                    self._take(orjson.loads(line[6:]), now_s)
            elif line.startswith(b"id: "):
                heard.last_id = line[4:].decode()

    def _take(self, said: dict[str, Any], now_s: float) -> None:
        heard = self._heard
        if error := said.get("error"):
            heard.error_code = code_of(error)
            return
        for choice in said.get("choices", ()):
            text = choice["text"] if "text" in choice else choice.get("delta", {}).get("content")
            if text:
                heard.words.append(text)
                heard.times_s.append(now_s)
            if choice.get("finish_reason"):
                heard.has_reason = True
        if usage := said.get("usage"):
            heard.completion_tokens = usage["completion_tokens"]


def code_of(error: object) -> str:
    """The stable code of an error object; one without a code is no clean error, and gives an empty text."""
    return str(error.get("code") or "") if isinstance(error, dict) else ""
