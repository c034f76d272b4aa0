"""Attempts at one streamed answer, each on an engine of its own that may break off, and what the client has of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import orjson

from common.types import ModelId, NodeId, RequestId
from common.wire import EntryId, Job, ReplyEntry, Usage
from provider.answers.answer import relay_answer
from provider.continuing.finding import find_seam
from provider.errors import EngineFailed
from provider.protocol.engine import Engine
from provider.replies.reply import Reply
from tests.unit.engine_script import EVENTS, NODE, RecordingReply, ScriptedAnswer, some_settings
from tests.unit.engine_words import BROKEN_OFF, CHAT, COMPLETIONS, GENERATE, WordsOf, engine_of
from tests.unit.virtual_time import in_virtual_time

TOKENS = 6
"""Of an answer, unless told otherwise."""


def a_job(endpoint: str = CHAT, *, tokens: int = TOKENS, **fields: Any) -> Job:
    """A streamed request for so many tokens; fields are added to its body or replace what is there."""
    question: dict[str, Any] = (
        {"prompt": "count for me "}
        if endpoint in (COMPLETIONS, GENERATE)
        else {"messages": [{"role": "user", "content": "count for me"}]}
    )
    limit: dict[str, Any] = (
        {"options": {"num_predict": tokens}}
        if endpoint.startswith("/api/")
        else {"max_tokens": tokens, "stream_options": {"include_usage": True}}
    )
    body = {"model": "tiny:1b", "stream": True, **question, **limit, **fields}
    kept = {name: value for name, value in body.items() if value is not None}
    return Job(RequestId("r"), 1, ModelId("tiny:1b"), endpoint, True, orjson.dumps(kept), "ghub:reply:{h}:r", 0)


class Telling:
    """One request's attempts, one after the other, each reading what came before it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.entries: list[tuple[EntryId, ReplyEntry]] = []
        self.attempts = 0
        self.failed: EngineFailed | None = None

    def go_on(self, engine: Engine, node: NodeId = NODE) -> "Telling":
        """The next attempt, without a loop of its own; an engine that fails is noted."""
        in_virtual_time(self.attempt(engine, node))
        return self

    async def attempt(self, engine: Engine, node: NodeId = NODE) -> None:
        """The next attempt; an engine that fails is noted."""
        self.attempts += 1
        job = replace(self.job, attempt=self.attempts)
        reply = RecordingReply()
        before = [*self.entries]
        self.entries.append((EntryId(self.attempts, 0), ReplyEntry(claim=node)))
        self.failed = None
        try:
            seam = find_seam(job, node, before)
            await relay_answer(engine, job, cast(Reply, reply), node, some_settings(), seam)
        except EngineFailed as exc:
            self.failed = exc
            reply.put(ReplyEntry(error=exc.failure))
        self.entries += [(EntryId(self.attempts, n), entry) for n, entry in enumerate(reply.entries, 1)]

    @property
    def data(self) -> bytes:
        """What the client has."""
        return b"".join(entry.data for _, entry in self.entries)

    @property
    def usage(self) -> Usage | None:
        """What the end tells; None without an end."""
        return self.entries[-1][1].end

    @property
    def code(self) -> str:
        """Of the last attempt's failure; empty if it ended well."""
        return self.failed.failure.code if self.failed is not None else ""


def told(job_fields: Mapping[str, Any], endpoint: str, *attempts: tuple[str, int | None]) -> Telling:
    """What came of these attempts: (kind, events before its engine breaks off) each."""
    telling = Telling(a_job(endpoint, **job_fields))
    for kind, breaks_after in attempts:
        telling.go_on(engine_of(WordsOf(kind, breaks_after)))
    return telling


def scripted(events: Sequence[bytes], breaks_after: int | None) -> ScriptedAnswer:
    """These events, or the first of them and a break."""
    return ScriptedAnswer([*events[:breaks_after], *([] if breaks_after is None else [BROKEN_OFF])], EVENTS)


@dataclass(frozen=True)
class View:
    """What a client makes of a stream."""

    text: str
    roles: int
    finishes: tuple[str, ...]
    usages: tuple[tuple[int, int], ...]
    """(prompt, completion) tokens of each time that they were told."""
    ends: int
    """How often the stream said that it was over."""
    ids: frozenset[tuple[object, ...]]
    """Of all its chunks: id, model, created, system_fingerprint."""


def view_of(data: bytes) -> View:
    """Read a whole stream of events, or of lines."""
    is_events = b"data:" in data
    payloads = (
        [line.removeprefix(b"data: ") for line in data.splitlines() if line.startswith(b"data: ")]
        if is_events
        else data.splitlines()
    )
    chunks = [orjson.loads(payload) for payload in payloads if payload != b"[DONE]"]
    return _events_view(chunks, payloads.count(b"[DONE]")) if is_events else _lines_view(chunks)


def _events_view(chunks: Sequence[dict[str, Any]], ends: int) -> View:
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    return View(
        text="".join(choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in choices),
        roles=sum("role" in choice.get("delta", {}) for choice in choices),
        finishes=tuple(choice["finish_reason"] for choice in choices if choice["finish_reason"]),
        usages=tuple((usage["prompt_tokens"], usage["completion_tokens"]) for usage in usages),
        ends=ends,
        ids=frozenset(
            tuple(chunk.get(name) for name in ("id", "object", "model", "created", "system_fingerprint"))
            for chunk in chunks
        ),
    )


def _lines_view(lines: Sequence[dict[str, Any]]) -> View:
    last = [line for line in lines if line["done"]]
    return View(
        text="".join(line["response"] if "response" in line else line["message"]["content"] for line in lines),
        roles=0,
        finishes=tuple(line["done_reason"] for line in last),
        usages=tuple((line.get("prompt_eval_count", 0), line["eval_count"]) for line in last),
        ends=len(last),
        ids=frozenset({(line["model"],) for line in lines}),
    )
