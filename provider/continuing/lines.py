"""Streams of JSON lines, as Ollama's own API has them: read, made to fit, ended."""

from datetime import UTC, datetime
from typing import Any

import orjson

from provider.continuing.begun import Begun, find_hindrance
from provider.continuing.obstacles import Obstacle
from provider.protocol.usage import read_lines_usage

_SILENT = frozenset({"role", "model", "created_at", "done"})
"""Fields that bring nothing of an answer."""


class LineForm:
    """How such a stream is read and written. `is_chat`: text stands in messages."""

    content_type = "application/x-ndjson"

    def __init__(self, *, is_chat: bool) -> None:
        self._is_chat = is_chat

    def read(self, data: bytes) -> Begun:
        """What came of an answer: whole lines."""
        begun = Begun()
        for line in data.splitlines():
            if not line.strip():
                continue
            try:
                self._read(orjson.loads(line), begun)
            except (ValueError, TypeError, AttributeError):
                begun.hinder(Obstacle.FORM)
        begun.usage = read_lines_usage(data) if begun.is_over else None
        return begun

    def _read(self, line: dict[str, Any], begun: Begun) -> None:
        begun.head = begun.head or {name: line[name] for name in ("model",) if name in line}
        said = line.get("message") or {} if self._is_chat else line
        if obstacle := find_hindrance(line) or find_hindrance(said):
            begun.hinder(obstacle)
        begun.say(said.get("content" if self._is_chat else "response"))
        if line.get("done"):
            begun.is_finished = begun.has_usage = begun.is_over = True

    def rewrite(self, block: bytes, begun: Begun) -> bytes:
        """Lines of the rest as if the engine that began had said them; those that say nothing are left out."""
        return b"".join([self._rewritten(line, begun) for line in block.splitlines(keepends=True)])

    def _rewritten(self, line: bytes, begun: Begun) -> bytes:
        try:
            said = orjson.loads(line)
        except ValueError:
            return line
        if not isinstance(said, dict):
            return line
        if said.get("done"):
            told = {
                "prompt_eval_count": begun.sum_prompt(said.get("prompt_eval_count")),
                "eval_count": begun.sum_answer(said.get("eval_count")),
            }
            said |= {name: count for name, count in told.items() if count is not None}
        elif not _says_something(said):
            return b""
        return orjson.dumps(said | begun.head) + b"\n"

    def mark(self, _node: str, _attempt: int) -> bytes:
        """Nothing: lines of JSON have no comments."""
        return b""

    def ending(self, begun: Begun, _fields: dict[str, Any]) -> bytes:
        """What is missing at the end of an answer for which no engine has to be asked any more, figures too."""
        if begun.is_over:
            return b""
        said: dict[str, Any] = {"message": {"role": "assistant", "content": ""}} if self._is_chat else {"response": ""}
        moment = {"created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z")}
        last = {"done": True, "done_reason": "length", "eval_count": begun.tokens}
        return orjson.dumps({**begun.head, **moment, **said, **last}) + b"\n"


def _says_something(line: dict[str, Any]) -> bool:
    message = line.get("message")
    said = message if isinstance(message, dict) else line
    return any(value for name, value in said.items() if name not in _SILENT)
