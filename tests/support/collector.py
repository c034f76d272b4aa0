"""A collector of traces: takes what OpenTelemetry's exporters post, and keeps it for the test to read."""

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue


@dataclass(frozen=True, slots=True)
class Received:
    """A span as it came."""

    service: str
    instance: str
    name: str
    trace: str
    span: str
    parent: str
    """Hexadecimal; empty where it is the first of its trace."""
    about: dict[str, Any]


class Collector:
    """OTLP over HTTP on a free loopback port."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.paths: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.paths.add(self.path)
                collector.spans += _read(body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _read(body: bytes) -> list[Received]:
    found = []
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        of = _told(resource.resource.attributes)
        for span in [span for scope in resource.scope_spans for span in scope.spans]:
            ids = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
            about = _told(span.attributes)
            found.append(Received(of["service.name"], of["service.instance.id"], span.name, *ids, about))
    return found


def _told(pairs: "list[KeyValue] | Any") -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
