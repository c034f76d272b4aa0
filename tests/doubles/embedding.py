"""Embeddings of the test engines: three numbers a text, which follow from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import orjson

from tests.doubles.faults import Faults
from tests.doubles.scripted import MalformedRequestError, read_fields


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """What a body of /v1/embeddings, or with `is_native` of Ollama's /api/embed, asks for."""

    model: str
    texts: Sequence[str]
    double: object
    is_native: bool = False
    stream: bool = False
    count: int = 0

    @classmethod
    def read(cls, body: bytes, *, is_native: bool = False) -> Self:
        """Read a request body; raises MalformedRequestError."""
        fields = read_fields(body)
        given = fields.get("input")
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise MalformedRequestError("input must be a string or a list of strings")
        return cls(fields["model"], texts, fields.get("double") or {}, is_native)

    def answer(self, faults: Faults, *, fingerprint: str) -> "EmbeddingAnswer":
        """Its vectors."""
        return EmbeddingAnswer(self, faults, fingerprint)


@dataclass(frozen=True, slots=True)
class EmbeddingAnswer:
    """Never streamed."""

    request: EmbeddingRequest
    faults: Faults
    fingerprint: str

    def document(self) -> bytes:
        """Return the whole answer."""
        vectors = [vector_of(text) for text in self.request.texts]
        tokens = sum(len(text.split()) for text in self.request.texts)
        if self.request.is_native:
            times = {"total_duration": 2_000_000, "load_duration": 1_000_000, "prompt_eval_count": tokens}
            return orjson.dumps({"model": self.request.model, "embeddings": vectors, **times})
        data = [{"object": "embedding", "index": place, "embedding": vector} for place, vector in enumerate(vectors)]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return orjson.dumps({"object": "list", "data": data, "model": self.request.model, "usage": usage})


def vector_of(text: str) -> list[float]:
    """Different for different texts, the same for the same."""
    return [len(text) / 1024, sum(text.encode()) / 65536, len(set(text)) / 256]
