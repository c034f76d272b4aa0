"""What the trace of one request tells of its hub.

    chat llama3.2                 server    the whole of it, from its head to the last byte of the answer
    ├─ publish interactive        producer  attempt 1: its job is brought to its lane
    │  ├─ wait                    internal  until a node takes it
    │  └─ process interactive     consumer  the node's own spans go on here, under what the job says in `trace`
    └─ publish retry              producer  attempt 2, linked to the first

Nothing is done for the events of a stream but for the first.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.types import Scope

from common.streams.jobs import LaneName
from common.telemetry.port import Span, SpanKind, Tracing, Value
from common.telemetry.words import FIRST_DATA, about_message, about_request, about_usage, operation_of
from common.types import NodeId, RequestId
from common.wire import Job
from hub.errors import RequestFailed

if TYPE_CHECKING:
    from hub.requests.request import OpenRequest

PROVIDER_NAME = "ghubai"
"""What serves the model, as far as the hub's client knows."""
CLIENT_GONE = "client_gone"
BROKEN = "internal_error"
UNPUBLISHED = "broker_unavailable"
_NS = 1_000_000_000


class RequestTrail:
    """The spans of one request. Its hub's parts say what happens; one of the methods that end it comes last."""

    def __init__(self, span: Span, about: dict[str, Value]) -> None:
        self._span = span
        self._about = about
        """What is known; written down at the end, at once."""
        self._began_ns = time.time_ns()
        self._publishing: Span | None = None
        self._published: Span | None = None
        self._waits_since_ns = 0
        self._is_waiting = False
        self._attempts = 0
        self._first_data_s: float | None = None
        self._is_over = False
        self.status: int | None = None
        """What its client heard in the status line, where neither answer nor error say so."""

    @classmethod
    def arrive(cls, tracing: Tracing, scope: Scope, headers: Mapping[str, str]) -> "RequestTrail | None":
        """A request has come in; None where nothing is traced."""
        path = scope["path"]
        parent, state = headers.get("traceparent", ""), headers.get("tracestate", "")
        span = tracing.begin(f"POST {path}", SpanKind.SERVER, traceparent=parent, tracestate=state)
        if span is None:
            return None
        address, port = scope.get("server") or ("", None)
        about: dict[str, Value] = {
            "http.request.method": "POST",
            "http.route": path,
            "url.path": path,
            "url.scheme": scope["scheme"],
            "network.protocol.version": scope["http_version"],
            "server.address": address,
            "server.port": port or 0,
        }
        return cls(span, about)

    @classmethod
    def adopt(cls, tracing: Tracing, job: Job) -> "RequestTrail | None":
        """A request of a hub that died: what is done for it from now on, under that hub's last span."""
        span = tracing.begin(f"adopt {job.model}", SpanKind.INTERNAL, traceparent=job.trace)
        return None if span is None else cls(span, about_request(job, job.model))

    @property
    def trace_id(self) -> str:
        """Of the whole trace."""
        return self._span.trace_id

    def asks(self, endpoint: str, model: str, *, stream: bool) -> None:
        """Its body was read. `model`: as its client wrote it."""
        operation = operation_of(endpoint)
        self._span.rename(f"{operation} {model}")
        self._about["gen_ai.operation.name"] = operation
        self._about["gen_ai.provider.name"] = PROVIDER_NAME
        self._about["gen_ai.request.model"] = model
        self._about["gen_ai.request.stream"] = stream

    def publish(self, job: Job, lane: LaneName) -> Job:
        """Its job is about to be published, once more perhaps; the same job, under whose `trace` its node goes on."""
        self._end_publishing(UNPUBLISHED)
        links = [] if self._published is None else [self._published]
        about = about_message("publish", "send", lane, job)
        self._publishing = self._span.child(f"publish {lane.lane}", SpanKind.PRODUCER, about, links=links)
        self._attempts = job.attempt
        return replace(job, trace=self._publishing.traceparent)

    def published(self, entry: bytes, reason: RequestFailed | None = None) -> None:
        """The broker has it under this entry. `reason`: why there is another attempt."""
        span = self._publishing
        if span is None:
            return
        if span.is_recorded:
            span.note({"messaging.message.id": entry.decode()})
        if reason is not None:
            self._end_wait({}, reason.code)
            self._span.event("requeued", {"error.type": reason.code, "ghub.attempt": self._attempts})
        self._end_publishing()
        self._published, self._is_waiting, self._waits_since_ns = span, True, time.time_ns()

    def not_published(self, error: RequestFailed) -> None:
        """The broker has not taken it."""
        self._end_publishing(error.code)

    def claimed(self, node: NodeId, attempt: int) -> None:
        """A node has it."""
        self._attempts = attempt
        self._about["ghub.node"] = node
        self._end_wait({"ghub.node": node})

    def first_data(self) -> None:
        """The first part of its answer, or of another attempt's, is about to go to the client."""
        now_ns = time.time_ns()
        if self._first_data_s is None:
            self._first_data_s = (now_ns - self._began_ns) / _NS
            self._about["gen_ai.response.time_to_first_chunk"] = self._first_data_s
        self._span.event(FIRST_DATA, {"ghub.attempt": self._attempts}, at_ns=now_ns)

    def refused(self, error: RequestFailed) -> None:
        """It was not admitted; the end."""
        self._end(error.status, error.code)

    def replayed(self, request: RequestId) -> None:
        """Its client reads along with another request, which has a trace of its own; the end."""
        self._about |= {"ghub.request.id": request, "ghub.replayed": True}
        self._end(200, None)

    def broken(self) -> None:
        """The hub failed on it; the end."""
        self._end(500, BROKEN)

    def ended(self, request: "OpenRequest") -> None:
        """It is over: with an answer, an error, or neither, since its client has left; the end."""
        job, error = request.job, request.error
        self._about |= {
            "ghub.request.id": job.id,
            "ghub.attempt": job.attempt,
            "ghub.lane": request.place.lane.value,
            "gen_ai.response.model": job.model,
            **about_usage(request.usage),
        }
        if request.queued_ms is not None:
            self._about["ghub.queue_ms"] = request.queued_ms
        if error is not None:
            self._end(self.status or error.status, error.code)
        else:
            said = None if request.start is None else request.start.status
            self._end(said, None if request.usage is not None else CLIENT_GONE)

    def _end(self, status: int | None, code: str | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._end_publishing(code or UNPUBLISHED)
        self._end_wait({}, code)
        if status is not None and "http.route" in self._about:
            self._about["http.response.status_code"] = status
        self._span.note(self._about)
        if code is not None:
            self._span.fail(code)
        self._span.end()

    def _end_publishing(self, code: str | None = None) -> None:
        span, self._publishing = self._publishing, None
        if span is not None and span is not self._span:
            if code is not None:
                span.fail(code)
            span.end()

    def _end_wait(self, about: Mapping[str, Value], code: str | None = None) -> None:
        if not self._is_waiting or self._published is None:
            return
        self._is_waiting = False
        if not self._published.is_recorded:
            return
        span = self._published.child("wait", attributes=about, at_ns=self._waits_since_ns)
        if code is not None:
            span.fail(code)
        span.end()
