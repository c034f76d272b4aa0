"""The place between what a client has of an answer and what this attempt adds."""

from dataclasses import dataclass
from typing import Any, Protocol

from common.wire import EntryId, Usage
from provider.continuing.begun import Begun
from provider.protocol.engine import Question


class Form(Protocol):
    """How the streams of an API are read and written."""

    content_type: str

    def read(self, data: bytes) -> Begun:
        """What came of an answer."""
        ...

    def rewrite(self, block: bytes, begun: Begun) -> bytes:
        """Whole events of the rest as if the engine that began had said them; empty if nothing is to be said."""
        ...

    def mark(self, node: str, attempt: int, /) -> bytes:
        """What shows the place in the stream."""
        ...

    def ending(self, begun: Begun, fields: dict[str, Any], /) -> bytes:
        """What is missing at the end of an answer that needs no engine any more."""
        ...


@dataclass(slots=True)
class Seam:
    """Where an answer is gone on with."""

    after: EntryId
    """The newest entry with data of earlier attempts."""
    content_type: str
    """Of the answer, as it began."""
    question: Question | None
    """What the engine is asked; None: nothing is left to ask."""
    form: Form
    begun: Begun
    last_words: bytes
    """What is missing of an answer of which nothing is left to ask."""
    mark: bytes
    """What stands in front of the first words of the rest, once."""

    @property
    def ending(self) -> bytes:
        """The last words, marked; empty where all was said."""
        return self._marked(self.last_words)

    def rewrite(self, block: bytes) -> bytes:
        """The engine's events as the client is to have them, with one id throughout and the sum of what was taken.

        Args:
            block: whole events.

        Returns:
            Whole events; empty where they say nothing that the client lacks.
        """
        return self._marked(self.form.rewrite(block, self.begun))

    def sum(self, told: Usage | None = None) -> Usage:
        """The tokens of the whole answer, from what an engine tells of the rest; without it, of what there is."""
        if told is None:
            prompt = self.begun.usage.prompt_tokens if self.begun.usage is not None else None
            return Usage(prompt, self.begun.tokens, is_estimate=True)
        answer = self.begun.sum_answer(told.completion_tokens or 0)
        return Usage(self.begun.sum_prompt(told.prompt_tokens), answer, is_estimate=True)

    def _marked(self, data: bytes) -> bytes:
        if not data or not self.mark:
            return data
        data, self.mark = self.mark + data, b""
        return data
