"""Anthropic's count of a prompt's tokens, as the test engines tell it: its words."""

from dataclasses import dataclass
from typing import Self

import orjson

from tests.doubles.faults import Faults
from tests.doubles.scripted import all_text, read_fields


@dataclass(frozen=True, slots=True)
class CountRequest:
    """What a body of /v1/messages/count_tokens asks for; its own answer, which is never streamed."""

    model: str
    words: int
    double: object
    stream: bool = False
    count: int = 0

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Read a request body; raises MalformedRequestError."""
        fields = read_fields(body)
        return cls(fields["model"], len(all_text(fields).split()), fields.get("double") or {})

    def answer(self, faults: Faults, *, fingerprint: str) -> "CountRequest":  # noqa: ARG002 - it is always the same
        """Itself."""
        return self

    def document(self) -> bytes:
        """Return the whole answer."""
        return orjson.dumps({"input_tokens": self.words})
