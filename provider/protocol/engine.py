"""What a provider asks of an engine, whatever it is."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from common.endpoints import ENDPOINTS, Capability
from common.types import ModelId
from common.wire import NOT_SUPPORTED, Failure, Job, Usage
from provider.protocol.failures import too_large

MAX_WHOLE_BYTES = 256 * 2**20
"""Longest answer that is not streamed and has to be read whole before it is passed on."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model of an engine, as far as the engine tells."""

    id: ModelId
    is_loaded: bool
    """Whether it is in memory; engines that cannot say are taken to have all of theirs there."""
    size_bytes: int | None = None
    """Of its weights on disk."""
    digest: str = ""
    gpu_bytes: int | None = None
    """GPU memory that it holds now."""


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What an engine says of itself."""

    kind: str
    url: str
    version: str = ""
    models: tuple[ModelInfo, ...] = ()
    capabilities: frozenset[Capability] = frozenset()
    slots: int | None = None
    """Requests that it works on at once; None: it doesn't say."""
    in_use: int | None = None
    """How many of these are taken, by whomever; None: it doesn't say."""

    @property
    def loaded(self) -> tuple[ModelId, ...]:
        """The models in memory."""
        return tuple(model.id for model in self.models if model.is_loaded)


def refusal(endpoint: str, status: EngineStatus) -> Failure | None:
    """Why a job for this path cannot run on this engine; None if it can.

    What no engine may be asked is refused for good. What only this one cannot do is worth another node's try.
    """
    known = ENDPOINTS.get(endpoint)
    if known is None:
        return Failure(404, "endpoint_not_allowed", f"no engine serves {endpoint[:100]} here")
    if known.needs not in status.capabilities:
        message = f"the engine ({status.kind}) does not serve {endpoint}"
        return Failure(501, NOT_SUPPORTED, message, retryable=True)
    return None


@dataclass(frozen=True, slots=True)
class Said:
    """The beginning of an answer that the engine is to go on with."""

    text: str
    tokens: int
    """As many as events brought it."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request to an engine: a client's own bytes for one of `ENDPOINTS`."""

    id: str
    endpoint: str
    model: ModelId
    stream: bool
    body: bytes
    trace: str = ""
    """A W3C traceparent, or empty."""
    said: Said | None = None
    """None: the answer begins with this question. The body is the client's own all the same, but for its limits."""

    @classmethod
    def of(cls, job: Job) -> "Question":
        """What a job asks."""
        return cls(job.id, job.endpoint, job.model, job.stream, job.body, job.trace)


class EngineAnswer(Protocol):
    """An answer that has begun."""

    status: int
    content_type: str

    @property
    def usage(self) -> Usage | None:
        """What the engine has told past these bytes of the tokens that they took; None: nothing, or not yet."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes as they arrive.

        Raises:
            EngineBroke: the connection was lost before the end.
        """
        ...


async def read_whole(answer: EngineAnswer, limit_bytes: int) -> bytes:
    """All bytes of an answer's body.

    Raises:
        EngineBroke: the connection was lost before the end, or there are more than so many.
    """
    parts: list[bytes] = []
    size = 0
    async for chunk in answer.chunks():
        parts.append(chunk)
        size += len(chunk)
        if size > limit_bytes:
            raise too_large(limit_bytes)
    return b"".join(parts)


class Engine(Protocol):
    """A local inference server."""

    async def status(self) -> EngineStatus:
        """Look at its health and models.

        Raises:
            EngineDown: it cannot be reached or says that it isn't ready.
        """
        ...

    def ask(self, question: Question) -> AbstractAsyncContextManager[EngineAnswer]:
        """Send the bytes to their path. Leaving the context closes the connection, which stops the engine.

        Raises:
            EngineDown: it cannot be reached.
            EngineFull: it has no memory for the model now.
            EngineRefused: it answered with an error status; ModelGone if that is for a model it no longer has.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...
