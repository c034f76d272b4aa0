"""The only change that a hub ever makes to a client's body: which model it names."""

import re
from json import JSONDecodeError, JSONDecoder

import orjson

from hub.errors import InvalidRequest

MOST_MEMBERS = 1000
"""At the top; APIs know a few dozen. Each costs a step of Python, while all of the hub's other requests wait."""
_SPACE = re.compile(r"[ \t\r\n]*")
# It only has to find where a value ends. Numbers are measured, not read: those of any length must pass.
_READER = JSONDecoder(strict=False, parse_int=len, parse_float=len, parse_constant=len)


def with_model(body: bytes, model: str) -> bytes:
    """The same JSON object with another `model`, wherever it is named at the top; every other byte stays.

    A name that stands there twice is changed twice: engines differ in which of the two they read.

    Raises:
        ValueError: it is no JSON object.
        InvalidRequest: it has too many members.
    """
    text = body.decode()
    said = orjson.dumps(model).decode()
    parts: list[str] = []
    copied = 0
    for name, start, end in _members(text):
        if name == "model":
            parts += text[copied:start], said
            copied = end
    return "".join([*parts, text[copied:]]).encode()


def _members(text: str) -> list[tuple[str, int, int]]:
    """The name of each member of the object, and where its value begins and ends."""
    members: list[tuple[str, int, int]] = []
    at = _expect(text, 0, "{")
    while not text.startswith("}", at):
        name, at = _read(text, at)
        start = _expect(text, at, ":")
        _, end = _read(text, start)
        members.append((str(name), start, end))
        if len(members) > MOST_MEMBERS:
            raise InvalidRequest(f"The body has more than {MOST_MEMBERS} fields.", code="too_many_parts")
        at = _skip(text, end)
        if text.startswith(",", at):
            at = _skip(text, at + 1)
        elif not text.startswith("}", at):
            raise JSONDecodeError("expected ',' or '}'", text, at)
    return members


def _read(text: str, at: int) -> tuple[object, int]:
    """A value and the place behind it."""
    value, end = _READER.raw_decode(text, at)
    return value, end


def _expect(text: str, at: int, sign: str) -> int:
    """The place behind a sign and the space around it."""
    at = _skip(text, at)
    if not text.startswith(sign, at):
        raise JSONDecodeError(f"expected {sign!r}", text, at)
    return _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    """The next place without space."""
    match = _SPACE.match(text, at)
    return at if match is None else match.end()
