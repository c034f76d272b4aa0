"""Traces by OpenTelemetry. The only module that imports it: whoever does not want traces needs none of it.

The process' global tracer provider stays unset, no context is current: each span is told its parent.
"""

import asyncio
import os
import threading
from collections.abc import Sequence
from typing import Self

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from common import __version__
from common.telemetry import port

log = structlog.get_logger()

FLUSH_S = 3.0
"""What a stopping process gives its last spans to be sent: a collector that is away must hold up no restart."""
MAX_WAITING_SPANS = 16_384
"""Until they are sent, unless `OTEL_BSP_MAX_QUEUE_SIZE` says another number: the library's 2,048 are less than a second
of a hub under load."""
MAX_TRACEPARENT_CHARS = 256
MAX_TRACESTATE_CHARS = 512
"""As much as W3C Trace Context asks everybody to pass on."""

_KINDS = {kind: SpanKind[kind.name] for kind in port.SpanKind}
_CONTEXTS = TraceContextTextMapPropagator()
_NOWHERE = Context()


class OtelSpan:
    """A span of the SDK, with explicit parents."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self._is_over = False
        self.is_recorded = span.is_recording()

    @property
    def trace_id(self) -> str:
        """Of the whole trace, 32 hexadecimal digits."""
        return format_trace_id(self._span.get_span_context().trace_id)

    @property
    def link(self) -> Link:
        """What stands for it in others."""
        return Link(self._span.get_span_context())

    @property
    def traceparent(self) -> str:
        """Under which others go on with the trace."""
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def child(
        self,
        name: str,
        kind: port.SpanKind = port.SpanKind.INTERNAL,
        attributes: port.Attributes | None = None,
        *,
        at_ns: int | None = None,
        links: Sequence[port.Span] = (),
    ) -> port.Span:
        """A part of this work; of a span that nobody will see, that span itself."""
        if not self.is_recorded:
            return self
        span = self._tracer.start_span(
            name,
            set_span_in_context(self._span, _NOWHERE),
            kind=_KINDS[kind],
            attributes=attributes,
            links=[one.link for one in links if isinstance(one, OtelSpan)],
            start_time=at_ns,
        )
        return OtelSpan(self._tracer, span)

    def rename(self, name: str) -> None:
        """It is known better now what this is."""
        self._span.update_name(name)

    def note(self, attributes: port.Attributes) -> None:
        """Add what is known of it."""
        self._span.set_attributes(attributes)

    def event(self, name: str, attributes: port.Attributes | None = None, *, at_ns: int | None = None) -> None:
        """Something happened within it."""
        self._span.add_event(name, attributes, at_ns)

    def fail(self, code: str) -> None:
        """It comes to no good end."""
        self._span.set_attribute("error.type", code)
        self._span.set_status(Status(StatusCode.ERROR, code))

    def end(self) -> None:
        """It is over; may be said twice."""
        if not self._is_over:
            self._is_over = True
            self._span.end()


class OtelTracing:
    """Spans on their way to a collector.

    Args:
        service: `service.name`, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` says another one.
        instance: `service.instance.id`, likewise.
        processor: takes the spans that are over.
        ratio: of the traces that begin here, how many are recorded; None: as `OTEL_TRACES_SAMPLER` says, else all.
            Others are recorded if their caller's span is.
    """

    is_on = True

    def __init__(self, service: str, instance: str, processor: SpanProcessor, ratio: float | None = None) -> None:
        about = {"service.name": service, "service.version": __version__, "service.instance.id": instance}
        self._provider = TracerProvider(
            sampler=None if ratio is None else ParentBased(TraceIdRatioBased(ratio)),
            resource=Resource.create().merge(Resource(about)).merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("ghubai", __version__)

    @classmethod
    def to_collector(cls, service: str, instance: str, url: str | None, ratio: float | None) -> Self:
        """Spans that go out by OTLP over HTTP, in the background. `url`: None: as `OTEL_EXPORTER_OTLP_*` says."""
        waiting = None if "OTEL_BSP_MAX_QUEUE_SIZE" in os.environ else MAX_WAITING_SPANS
        return cls(service, instance, BatchSpanProcessor(OTLPSpanExporter(url), max_queue_size=waiting), ratio)

    def begin(self, name: str, kind: port.SpanKind, *, traceparent: str = "", tracestate: str = "") -> port.Span | None:
        """A span under a caller's, or the first of a trace of its own."""
        parent = _NOWHERE
        if traceparent:
            sent = {"traceparent": traceparent[:MAX_TRACEPARENT_CHARS]}
            if tracestate and len(tracestate) <= MAX_TRACESTATE_CHARS:
                sent["tracestate"] = tracestate
            parent = _CONTEXTS.extract(sent, _NOWHERE)
        return OtelSpan(self._tracer, self._tracer.start_span(name, parent, kind=_KINDS[kind]))

    async def aclose(self) -> None:
        """Send what was not sent yet, within a limit."""
        loop, is_done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            if not loop.is_closed():
                loop.call_soon_threadsafe(is_done.set)

        # A thread of its own: the loop's would be waited for at its end, however long a collector takes.
        threading.Thread(target=shut_down, name="last-spans", daemon=True).start()
        try:
            async with asyncio.timeout(FLUSH_S):
                await is_done.wait()
        except TimeoutError:
            log.warning("traces_unsent", limit_s=FLUSH_S)
