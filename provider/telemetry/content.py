"""Prompts and answers as OpenTelemetry's conventions write them: `gen_ai.input.messages`, `gen_ai.output.messages`.

Only for spans, and only where somebody has switched that on. What is in no form known here is told as it is.
"""

from collections.abc import Iterator
from typing import Any

import orjson

MAX_CHARS = 64 * 1024
"""Of all of one attribute's texts together: collectors refuse spans of many MiB, and what stands with them."""
CUT = "…"
_PROMPTS = ("prompt", "input")
_PLACES = ("choices", "delta", "message", "content", "text", "response", "output")
"""Where the text of an answer stands, or something that holds it."""
_REPEATS = (".done", ".completed", ".added")
"""What events that say again what others have said are called."""


def asked_in(body: bytes) -> str:
    """The messages of a request, as JSON."""
    try:
        fields = orjson.loads(body)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        return _written([("user", body.decode(errors="replace"))])
    messages = [("system", _text_of(fields[name])) for name in ("system", "instructions") if fields.get(name)]
    for name in ("messages", *_PROMPTS):
        said = fields.get(name)
        if isinstance(said, list) and said and all(isinstance(one, dict) for one in said):
            messages += [(str(one.get("role", "user")), _text_of(one.get("content", ""))) for one in said]
        elif said:
            messages.append(("user", _text_of(said)))
    return _written(messages)


def said_in(answer: bytes) -> str:
    """The message of an answer, streamed or whole, as JSON."""
    objects = [*_objects_in(answer)]
    text = "".join([piece for one in objects for piece in _pieces_of(one)])
    return _written([("assistant", text if text or objects else answer.decode(errors="replace"))])


def _objects_in(answer: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects of an answer: one, one a line, or one an event."""
    for text in (answer, *answer.splitlines()):
        try:
            said = orjson.loads(text.removeprefix(b"data:"))
        except ValueError:
            continue
        if isinstance(said, dict):
            yield said
            if text is answer:
                return


def _pieces_of(said: object) -> Iterator[str]:
    """The texts of an answer in one of its objects, whichever API of those that engines speak it is of."""
    if isinstance(said, str):
        yield said
    elif isinstance(said, list):
        for part in said:
            yield from _pieces_of(part)
    elif isinstance(said, dict) and not str(said.get("type", "")).endswith(_REPEATS):
        yield from _pieces_of(next((said[name] for name in _PLACES if said.get(name)), None))


def _text_of(content: object) -> str:
    """The text of a content: a text, or parts of which some hold text."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join([_text_of(part) for part in content])
    if isinstance(content, dict):
        text = content.get("text")
        return text if isinstance(text, str) else f"[{content.get('type', 'part')}]"
    return str(content)


def _written(messages: list[tuple[str, str]]) -> str:
    left, written = MAX_CHARS, []
    for role, text in messages:
        shown = text if len(text) <= left else text[:left] + CUT
        left = max(0, left - len(text))
        written.append({"role": role, "parts": [{"type": "text", "content": shown}]})
    return orjson.dumps(written).decode()
