"""What a streamed answer is made of."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from ghub.chat.errors import AnswerFailed
from ghub.client.event_stream import StreamComment, read_stream
from ghub.showing.printable import printable

TAKEN_OVER = "continued by "


@dataclass(frozen=True, slots=True)
class Waiting:
    """The hub says how it stands; nothing is said yet."""

    text: str


@dataclass(frozen=True, slots=True)
class TakenOver:
    """The node that spoke was lost, and another one goes on where it stopped."""

    node: str


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of what a model tells itself before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The model says no more."""

    reason: str
    """`stop`, `length`, …"""


@dataclass(frozen=True, slots=True)
class Used:
    """How much it was."""

    tokens: int


Piece = Waiting | TakenOver | Text | Thought | Ended | Used


def read_pieces(chunks: Iterable[bytes]) -> Iterator[Piece]:
    """Read a streamed chat completion.

    Args:
        chunks: the bytes of the stream.

    Raises:
        AnswerFailed: it ends with an error, or without its end.
    """
    for event in read_stream(chunks):
        if isinstance(event, StreamComment):
            if event.text.startswith(TAKEN_OVER):
                yield TakenOver(event.text.removeprefix(TAKEN_OVER).partition(",")[0])
            elif event.text:
                yield Waiting(event.text)
        elif event.data == "[DONE]":
            return
        else:
            yield from _pieces(event.data)
    raise AnswerFailed("the answer broke off")


def _pieces(data: str) -> Iterator[Piece]:
    try:
        told: Any = orjson.loads(data)
    except ValueError as exc:
        raise AnswerFailed("the answer holds what is no JSON") from exc
    if not isinstance(told, dict):
        return
    if (error := told.get("error")) is not None:
        message = error.get("message") if isinstance(error, dict) else error
        raise AnswerFailed(printable(str(message)))
    if isinstance(usage := told.get("usage"), dict) and isinstance(tokens := usage.get("completion_tokens"), int):
        yield Used(tokens)
    choices = told.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        return
    delta = choice.get("delta")
    if isinstance(delta, dict):
        for name, kind in (("reasoning_content", Thought), ("reasoning", Thought), ("content", Text)):
            if isinstance(said := delta.get(name), str) and said:
                yield kind(said)
    if isinstance(reason := choice.get("finish_reason"), str):
        yield Ended(reason)
