"""An engine that follows a script, and a reply that remembers what was put into it."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from common.types import ModelId, NodeId, RequestId
from common.wire import Job, ReplyEntry, Usage
from provider.answers.answer import relay_answer
from provider.errors import EngineFailed
from provider.protocol.engine import EngineStatus, Question
from provider.replies.reply import Reply
from provider.settings import ProviderSettings
from tests.unit.virtual_time import in_virtual_time, now_s

EVENTS = "text/event-stream; charset=utf-8"
JSON = "application/json"
NODE = NodeId("node-1")
Step = bytes | float | Exception
"""Say these bytes, be silent for so many seconds, or break."""
FOR_EVER = 1e9


@dataclass
class ScriptedAnswer:
    """An `EngineAnswer` that plays its steps."""

    steps: Iterable[Step]
    content_type: str = EVENTS
    status: int = 200
    usage: Usage | None = None
    steps_played: int = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        for step in self.steps:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, float):
                await asyncio.sleep(step)
            else:
                yield step
            self.steps_played += 1


@dataclass
class ScriptedEngine:
    """An `Engine` that gives one answer, after a wait if so told."""

    answer: ScriptedAnswer
    wait_s: float = 0
    fails_with: Exception | None = None
    is_closed: bool = False
    """Whether its connection was closed, which is what stops a real one."""
    asked: list[Question] = field(default_factory=list)

    async def status(self) -> EngineStatus:
        return EngineStatus("scripted", "http://scripted")

    @asynccontextmanager
    async def ask(self, question: Question) -> AsyncIterator[ScriptedAnswer]:
        self.asked.append(question)
        try:
            await asyncio.sleep(self.wait_s)
            if self.fails_with is not None:
                raise self.fails_with
            yield self.answer
        finally:
            self.is_closed = True

    async def aclose(self) -> None:
        self.is_closed = True


class RecordingReply:
    """What relay_answer needs of a `Reply`, and what it put there."""

    def __init__(self) -> None:
        self.events = 0
        self.entries: list[ReplyEntry] = []
        self.has_room = asyncio.Event()
        self.has_room.set()

    def put(self, entry: ReplyEntry) -> None:
        self.entries.append(entry)

    def put_data(self, data: bytes) -> None:
        self.entries.append(ReplyEntry(data=data))

    async def room(self, limit_bytes: int) -> None:
        assert limit_bytes > 0
        await self.has_room.wait()

    @property
    def data(self) -> bytes:
        return b"".join(entry.data for entry in self.entries)


@dataclass
class Outcome:
    """How one relayed answer went."""

    reply: RecordingReply
    engine: ScriptedEngine
    failed: EngineFailed | None
    took_s: float

    @property
    def code(self) -> str:
        assert self.failed is not None, "it did not fail"
        return self.failed.failure.code


def a_job(*, stream: bool = True) -> Job:
    return Job(RequestId("r"), 1, ModelId("m"), "/v1/chat/completions", stream, b"{}", "ghub:reply:{h}:r", 0)


def some_settings(**fields: Any) -> ProviderSettings:
    return ProviderSettings(name="node-1", **fields)


async def relay(engine: ScriptedEngine, *, stream: bool = True, settings: ProviderSettings | None = None) -> Outcome:
    """Relay the engine's answer into a recording reply, in the loop that runs."""
    reply = RecordingReply()
    failed = None
    try:
        await relay_answer(engine, a_job(stream=stream), cast(Reply, reply), NODE, settings or some_settings())
    except EngineFailed as exc:
        failed = exc
    return Outcome(reply, engine, failed, now_s())


def relayed(
    steps: Iterable[Step] | Sequence[Step],
    *,
    content_type: str = EVENTS,
    stream: bool = True,
    wait_s: float = 0,
    **settings: Any,
) -> Outcome:
    """Relay a whole script in virtual time."""
    engine = ScriptedEngine(ScriptedAnswer(steps, content_type), wait_s)
    return in_virtual_time(relay(engine, stream=stream, settings=some_settings(**settings)))
