"""A hub and a node of one process whose spans the test reads: clients come in by the hub's own front door."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import orjson
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from common.broker.broker import Broker
from common.endpoints import Capability
from common.streams.replies import ReplyStreams
from common.telemetry.otel import OtelTracing
from common.types import NodeId
from provider.protocol.engine import Engine, EngineAnswer, EngineStatus, Question
from provider.replies.reopening import ReopenWindow
from provider.replies.writer import ReplyWriter
from provider.settings import ProviderSettings
from provider.telemetry.trail import Trails
from tests.contract.stage import Stage, a_stage
from tests.contract.story import MODEL, at_work
from tests.contract.writers import a_runner
from tests.unit.provider_parts import Parts, model

PATH = "/v1/chat/completions"
CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{CALLER[0]}-{CALLER[1]}-01"
PROMPT, SAID = "the secret question", "the secret answer"
EVENTS = (
    b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}\n\n',
    *(
        b"data: %b\n\n" % orjson.dumps({"choices": [{"index": 0, "delta": {"content": piece}}]})
        for piece in ("the secret ", "answer")
    ),
    b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n',
    b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}}\n\n',
    b"data: [DONE]\n\n",
)


class Spans:
    """All that was traced, by hub and nodes."""

    def __init__(self, ratio: float | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self._ratio = ratio

    def of(self, service: str) -> OtelTracing:
        return OtelTracing(service, f"{service}-1", SimpleSpanProcessor(self._exporter), self._ratio)

    @property
    def all(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        """Those of a name, in the order in which they began."""
        return sorted((one for one in self.all if one.name == name), key=lambda one: one.start_time or 0)

    def one(self, name: str) -> ReadableSpan:
        (found,) = self.named(name)
        return found


def told_by(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def texts_of(spans: Sequence[ReadableSpan]) -> str:
    """Everything that stands in them."""
    return "\n".join(one.to_json() for one in spans)


class PlayedAnswer:
    status, content_type, usage = 200, "text/event-stream", None

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            await asyncio.sleep(0)
            yield piece


class PlayedEngine:
    """An engine that answers in events, or fails as it is told to; `traces`: what it was asked under."""

    def __init__(self) -> None:
        self.traces: list[str] = []
        self.refuses: Exception | None = None

    @asynccontextmanager
    async def ask(self, question: Question) -> AsyncIterator[EngineAnswer]:
        self.traces.append(question.trace)
        if self.refuses is not None:
            raise self.refuses
        yield PlayedAnswer(EVENTS)


class Node:
    """A node that takes one job after another, as the test tells it to."""

    def __init__(self, broker: Broker, tracing: OtelTracing, name: NodeId, **settings: Any) -> None:
        parts = Parts().open()
        can = frozenset({Capability.CHAT})
        parts.engine.now = EngineStatus(
            "vllm", "http://127.0.0.1:8000", models=(model(MODEL),), capabilities=can, slots=2
        )
        self.engine = PlayedEngine()
        parts.engine.asked = cast("Engine", self.engine)
        replies = ReplyStreams(broker)
        self.writer = ReplyWriter(replies, ReopenWindow(broker.reconnections), flush_gap_ms=0, broker_grace_s=5)
        self.name = name
        of = ProviderSettings(name=name, **settings)
        trails = Trails(tracing, name, parts.engine, tells_content=of.traces_content)
        self.runner = a_runner(broker, parts.machine, self.writer, name, settings=of, trails=trails)


@asynccontextmanager
async def a_node(broker: Broker, spans: Spans, name: NodeId, **settings: Any) -> AsyncIterator[Node]:
    node = Node(broker, spans.of("ghub-provider"), name, **settings)
    async with at_work(node.writer.run()):
        yield node
        await node.runner.drain(5, 5)


@asynccontextmanager
async def a_traced_hub(broker: Broker, spans: Spans, **settings: Any) -> AsyncIterator[Stage]:
    async with a_stage(broker, spans.of("ghub-hub"), **settings) as stage:
        yield stage


class Client:
    """One request at the hub's front door."""

    def __init__(self, stage: Stage, headers: Mapping[str, str] | None = None, **body: Any) -> None:
        fields = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": PROMPT}], **body}
        self._body: bytes | None = orjson.dumps(fields)
        self._scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": PATH,
            "raw_path": PATH.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "server": ("127.0.0.1", 8080),
            "client": ("127.0.0.1", 4711),
            "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        }
        self._is_gone = asyncio.Event()
        self.status = 0
        self.heard = b""
        self.task = asyncio.create_task(stage.hub.front(self._scope, self._receive, self._send))

    def leave(self) -> None:
        self._is_gone.set()

    async def end(self) -> None:
        async with asyncio.timeout(15):
            await self.task

    async def _receive(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._is_gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.status = message.get("status", self.status)
        self.heard += message.get("body", b"")
