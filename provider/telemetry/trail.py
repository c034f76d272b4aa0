"""What a trace tells of a provider: each attempt at a job, or direct call, and the question to the engine within it.

    process interactive           consumer  a job, from its delivery until it is off its lane
    └─ chat llama3.2              client    the question to the engine; the engine's own spans go on here

A direct call is a `server` span in the place of the first. Nothing is done for the events of a stream: when the first
one came, the stall clock knows.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

from common.streams.jobs import Ticket
from common.telemetry.port import Attributes, Span, SpanKind, Tracing, Value
from common.telemetry.words import FIRST_DATA, about_message, about_usage, operation_of
from common.types import NodeId
from common.wire import Job, Usage
from provider.engines.watch import EngineWatch
from provider.errors import EngineDown, EngineFailed, EngineFull
from provider.protocol.engine import EngineAnswer, Question
from provider.telemetry.content import asked_in, said_in

DONE = "done"
CANCELLED = "cancelled"
BROKEN = "provider_error"
MAX_OVERHEARD_BYTES = 2**20
"""Of a streamed answer: its text is a small part of it."""
_NS = 1_000_000_000


class Overheard:
    """An answer whose bytes are kept on their way, as many as a span may hold."""

    def __init__(self, answer: EngineAnswer) -> None:
        self._answer = answer
        self.status = answer.status
        self.content_type = answer.content_type
        self.said = b""

    @property
    def usage(self) -> Usage | None:
        """As the answer tells it."""
        return self._answer.usage

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes as they arrive; EngineBroke if the connection is lost before the end."""
        async for chunk in self._answer.chunks():
            if len(self.said) < MAX_OVERHEARD_BYTES:
                self.said += chunk
            yield chunk


class EngineTrail:
    """One question to an engine."""

    def __init__(self, span: Span, question: Question, *, tells_content: bool) -> None:
        self._span = span
        self._began_at = asyncio.get_running_loop().time()
        self._question = replace(question, trace=span.traceparent)
        self.tells_content = tells_content and span.is_recorded
        """Whether what was asked and answered goes into it."""
        self.usage: Usage | None = None
        """What the answer took; None where there was no whole one."""
        self._overheard: Overheard | None = None

    @property
    def question(self) -> Question:
        """The question as it goes out, under this span."""
        return self._question

    def heard(self, begun_at: float | None) -> None:
        """Note when the answer began, on the loop's clock; None: it did not."""
        if begun_at is None or not self._span.is_recorded:
            return
        after_s = begun_at - self._began_at
        ago_ns = int((asyncio.get_running_loop().time() - begun_at) * _NS)
        self._span.event(FIRST_DATA, at_ns=time.time_ns() - ago_ns)
        self._span.note({"gen_ai.response.time_to_first_chunk": after_s})

    def overhear(self, answer: EngineAnswer) -> EngineAnswer:
        """The same answer, which is told at the end if contents are told at all."""
        if not self.tells_content:
            return answer
        self._overheard = Overheard(answer)
        return self._overheard

    def told(self, answer: bytes) -> None:
        """This was the answer, or what came of it."""
        if self.tells_content:
            asked = asked_in(self._question.body)
            self._span.note({"gen_ai.input.messages": asked, "gen_ai.output.messages": said_in(answer)})

    def end(self, code: str | None = None) -> None:
        """It is over. `code`: why in vain."""
        if self._overheard is not None:
            self.told(self._overheard.said)
        self._span.note(about_usage(self.usage))
        if code is not None:
            self._span.fail(code)
        self._span.end()


class WorkTrail:
    """One attempt at a job, or one direct call."""

    def __init__(self, span: Span, engine: EngineWatch, *, tells_content: bool) -> None:
        self._span = span
        self._engine = engine
        self._tells_content = tells_content
        self._is_over = False

    @property
    def trace_id(self) -> str:
        """Of the whole trace."""
        return self._span.trace_id

    def ask(self, question: Question) -> EngineTrail:
        """The engine is about to be asked."""
        status, operation = self._engine.status, operation_of(question.endpoint)
        address = urlsplit(status.url)
        about: dict[str, Value] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": status.kind,
            "gen_ai.request.model": question.model,
            "gen_ai.request.stream": question.stream,
            "http.request.method": "POST",
            "url.path": question.endpoint,
            "server.address": address.hostname or "",
            "server.port": address.port or (443 if address.scheme == "https" else 80),
            "ghub.request.id": question.id,
        }
        if question.said is not None:
            about["ghub.continued_tokens"] = question.said.tokens
        span = self._span.child(f"{operation} {question.model}", SpanKind.CLIENT, about)
        return EngineTrail(span, question, tells_content=self._tells_content)

    @contextmanager
    def asking(self, question: Question) -> Iterator[EngineTrail]:
        """The same, until the context is left; what is raised says how it ended."""
        trail = self.ask(question)
        try:
            yield trail
        except BaseException as exc:  # a span that is never ended is never sent
            trail.end(_code_of(exc))
            raise
        trail.end()

    def ended(self, outcome: str, about: Attributes | None = None) -> None:
        """It is over, as the provider's log and metrics call it; only the first word counts."""
        if self._is_over:
            return
        self._is_over = True
        self._span.note({"ghub.outcome": outcome, **(about or {})})
        if outcome != DONE:
            self._span.fail(outcome)
        self._span.end()


def _code_of(error: BaseException) -> str:
    """Why a question was in vain, in a word."""
    match error:
        case EngineFailed():
            return error.failure.code
        case EngineFull():
            return "engine_full"
        case EngineDown():
            return "engine_down"
        case asyncio.CancelledError():
            return CANCELLED
        case _:
            return BROKEN


def log_fields(trail: WorkTrail | None) -> Mapping[str, str]:
    """What every line of a log about this work carries of its trace."""
    return {} if trail is None else {"trace_id": trail.trace_id}


class Trails:
    """Begins them. `tells_content`: whether prompts and answers are to be told."""

    def __init__(self, tracing: Tracing, node: NodeId, engine: EngineWatch, *, tells_content: bool = False) -> None:
        self._tracing = tracing
        self._node = node
        self._engine = engine
        self._tells_content = tells_content

    def attempt(self, job: Job, ticket: Ticket) -> WorkTrail | None:
        """A job was delivered; None where nothing is traced."""
        if not self._tracing.is_on:
            return None
        name = f"process {ticket.lane.lane}"
        span = self._tracing.begin(name, SpanKind.CONSUMER, traceparent=job.trace)
        if span is not None and span.is_recorded:
            about = about_message("process", "process", ticket.lane, job)
            about["messaging.message.id"] = ticket.entry.decode()
            about["messaging.consumer.group.name"] = "providers"
            about["messaging.client.id"] = self._node
            about["ghub.node"] = self._node
            span.note(about)
        return self._working(span)

    def call(self, path: str, request: str, headers: Mapping[str, str]) -> WorkTrail | None:
        """A direct call came in; None where nothing is traced."""
        if not self._tracing.is_on:
            return None
        parent, state = headers.get("traceparent", ""), headers.get("tracestate", "")
        span = self._tracing.begin(f"POST {path}", SpanKind.SERVER, traceparent=parent, tracestate=state)
        if span is not None:
            span.note(
                {
                    "http.request.method": "POST",
                    "http.route": path,
                    "url.path": path,
                    "ghub.request.id": request,
                    "ghub.node": self._node,
                }
            )
        return self._working(span)

    def _working(self, span: Span | None) -> WorkTrail | None:
        return None if span is None else WorkTrail(span, self._engine, tells_content=self._tells_content)
