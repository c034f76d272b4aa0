"""What hub and provider say to a tracer, whoever it is; nobody listens unless traces are switched on.

Whoever may trace something asks `Tracing.begin` for a span, hears None where traces are off, and keeps that. So the
rest of a request costs one look at a field each time.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

Value = str | bool | int | float
Attributes = Mapping[str, Value]


class SpanKind(StrEnum):
    """Which side of what a span is."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class Span(Protocol):
    """One piece of work, from a beginning to an end. Times are Unix ns; None: now. After its end nothing changes it."""

    @property
    def trace_id(self) -> str:
        """Of the whole trace, 32 hexadecimal digits."""
        ...

    @property
    def traceparent(self) -> str:
        """Under which others go on with the trace, as W3C Trace Context writes it."""
        ...

    @property
    def is_recorded(self) -> bool:
        """Whether anybody will see it; one that is not sampled is only passed on."""
        ...

    def child(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
        *,
        at_ns: int | None = None,
        links: Sequence["Span"] = (),
    ) -> "Span":
        """A part of this work. `links`: others that it has to do with."""
        ...

    def rename(self, name: str) -> None:
        """It is known better now what this is."""
        ...

    def note(self, attributes: Attributes) -> None:
        """Add what is known of it."""
        ...

    def event(self, name: str, attributes: Attributes | None = None, *, at_ns: int | None = None) -> None:
        """Something happened within it."""
        ...

    def fail(self, code: str) -> None:
        """It comes to no good end; `code` is one of the project's own, and goes into `error.type`."""
        ...

    def end(self) -> None:
        """It is over; may be said twice."""
        ...


class Tracing(Protocol):
    """Where a process' spans go."""

    @property
    def is_on(self) -> bool:
        """Whether `begin` gives spans."""
        ...

    def begin(self, name: str, kind: SpanKind, *, traceparent: str = "", tracestate: str = "") -> Span | None:
        """A span under a caller's, or the first of a trace of its own; None where traces are off.

        Args:
            name: of few values, such as `chat llama3.2`.
            kind: which side of what it is.
            traceparent: as the caller sent it; what is none counts as none.
            tracestate: the caller's, too.
        """
        ...

    async def aclose(self) -> None:
        """Send what was not sent yet, within a limit."""
        ...


class NoTracing:
    """Traces that are off."""

    is_on = False

    def begin(self, name: str, kind: SpanKind, *, traceparent: str = "", tracestate: str = "") -> Span | None:
        """None."""

    async def aclose(self) -> None:
        """Nothing."""


NO_TRACING: Tracing = NoTracing()
