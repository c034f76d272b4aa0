"""One engine call: its bytes into a reply, whole events or lines at a time, watched by the two stall clocks."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

import orjson

from common.types import NodeId
from common.wire import Failure, Job, ReplyEntry, Start, Usage
from provider.continuing.obstacles import Obstacle, cannot_continue
from provider.continuing.seam import Seam
from provider.engines.altered import AlteredAnswer
from provider.engines.base import Engine, EngineAnswer, Question
from provider.engines.failures import engine_error, read_error_object
from provider.engines.framing import Framing, framing_of
from provider.engines.lines import LineSplitter
from provider.engines.metering import MeteredAnswer
from provider.errors import EngineBroke, EngineFailed, EngineRefused
from provider.reply import Reply
from provider.settings import ProviderSettings
from provider.usage import estimate_usage, read_usage

MAX_OPENING_BYTES = 64 * 1024
RECENT_BLOCKS = 8
"""Usage stands in one of the last few events, which may be as long as the whole answer."""


class StallClock:
    """Two limits in one timer: to the first event, and from each event to the next (design, rule 13).

    Moving a timer at each event would cost more than the event; it is moved at most every half second, and set so much
    later: a stall may be seen late by that, but no event that is in time is taken for one.
    """

    GRAIN_S = 0.5

    def __init__(self, first_s: float, gap_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._gap_s = gap_s
        self._grain_s = min(self.GRAIN_S, gap_s / 4)
        self._moved_at = 0.0
        self.has_begun = False
        self.timer = asyncio.timeout(first_s)

    def tick(self) -> None:
        """An event came."""
        now = self._loop.time()
        if not self.has_begun or now - self._moved_at >= self._grain_s:
            self.has_begun = True
            self._moved_at = now
            self.timer.reschedule(now + self._gap_s + self._grain_s)


async def relay_answer(
    engine: Engine, job: Job, reply: Reply, node: NodeId, settings: ProviderSettings, seam: Seam | None = None
) -> None:
    """Ask the engine and put its whole answer into the reply, the end included.

    Args:
        engine: whom to ask.
        job: what is asked.
        reply: takes the answer.
        node: whose engine it is.
        settings: its limits.
        seam: where the answer is gone on with; None: it begins here.

    Raises:
        EngineDown: it cannot be reached.
        EngineFull: it has no memory for the model now; nothing is in the reply.
        EngineFailed: it refused, broke off, stalled, made no sense or cannot go on; what came before is in the reply.
    """
    question = Question.of(job)
    if seam is not None:
        if seam.question is None:
            _end_unasked(seam, reply, node)
            return
        question = seam.question
    first_s = settings.first_token_timeout_s if job.stream else settings.answer_timeout_s
    clock = StallClock(first_s, settings.token_timeout_s)
    try:
        async with clock.timer, engine.ask(question) as answer:
            start = Start(answer.status, answer.content_type, node, "" if seam is None else str(seam.after))
            framing = framing_of(answer.content_type, settings.engine.max_event_bytes)
            if framing is not None:
                await _relay_stream(answer, framing, start, reply, settings, clock, seam)
            elif seam is None:
                await _relay_whole(answer, start, reply, settings)
            else:
                raise EngineBroke(Failure(502, "engine_bad_answer", "the engine's answer is no stream", retryable=True))
    except EngineRefused as exc:
        if question.said is None or exc.failure.retryable:
            raise
        raise cannot_continue(Obstacle.REFUSED, exc.failure.message) from exc  # the client's own body was taken before
    except TimeoutError as exc:
        if not job.stream:
            code, message = "answer_timeout", f"the engine gave no answer within {settings.answer_timeout_s:g} s"
        elif clock.has_begun:
            code, message = "token_timeout", f"the engine said nothing for {settings.token_timeout_s:g} s"
        else:
            code = "first_token_timeout"
            message = f"the engine gave no first token within {settings.first_token_timeout_s:g} s"
        raise EngineBroke(Failure(504, code, message, retryable=True)) from exc


def _end_unasked(seam: Seam, reply: Reply, node: NodeId) -> None:
    """End an answer of which all was said, or as much as may be."""
    start = Start(200, seam.content_type, node, str(seam.after))
    reply.put(ReplyEntry(start=start, data=seam.ending, end=seam.sum()))


async def _relay_stream(
    answer: EngineAnswer,
    framing: Framing,
    start: Start,
    reply: Reply,
    settings: ProviderSettings,
    clock: StallClock,
    seam: Seam | None,
) -> None:
    total = 0
    recent: deque[bytes] = deque(maxlen=RECENT_BLOCKS)
    head: Start | None = start
    opening = b""
    count, mark = 0, framing.end if framing.end == LineSplitter.end else b"data:"
    is_silence = framing.is_silence
    async for block in _blocks(answer, framing):
        # Whatever a client hears binds it to this attempt: before the first word that is not worth it.
        if is_silence(block):
            if head is not None:
                opening += block if opening else b""  # in its place: a CR LF may be cut between the two
                continue
        elif head is not None and len(opening) < MAX_OPENING_BYTES and framing.is_opening(block):
            opening += block
            continue
        else:
            clock.tick()
        if head is not None:
            block = opening = opening + block  # noqa: PLW2901 - what stood before the first word goes with it
        if b"error" in block:
            _raise_error(framing, block, head, reply, seam)
        total += len(block)
        if total > settings.max_answer_bytes:
            raise _too_large(settings.max_answer_bytes)
        recent.append(block)
        count += block.count(mark)
        if seam is not None and not (block := seam.rewrite(block)):
            opening = b""
            continue
        if head is not None:
            reply.put(ReplyEntry(start=head, data=block))
            head = None
        else:
            reply.put_data(block)
        await reply.room(settings.reply_buffer_bytes)
    tail = b"".join(recent)
    _check_end(framing, tail)
    hidden = answer.usage if isinstance(answer, MeteredAnswer | AlteredAnswer) else None
    usage = _complete(hidden or framing.read_usage(tail, opening), framing, tail, count, mark)
    reply.put(ReplyEntry(end=usage) if seam is None else ReplyEntry(start=head, end=seam.sum(usage)))


def _complete(told: Usage, framing: Framing, tail: bytes, count: int, mark: bytes) -> Usage:
    """What the engine told; where it left out the answer's tokens, an estimate by the events that it had."""
    if told.completion_tokens is not None:
        return told
    return estimate_usage(told, count, [one for one in framing.split(tail) if mark in one])


async def _blocks(answer: EngineAnswer, framing: Framing) -> AsyncIterator[bytes]:
    """Whole events or lines as they come; the last one may have been left without its end."""
    async for chunk in answer.chunks():
        if block := framing.feed(chunk):
            yield block
    if (rest := framing.finish()).strip():
        yield rest + framing.end


def _check_end(framing: Framing, tail: bytes) -> None:
    """Raise EngineBroke if a stream that ends with these events said nothing, or not all."""
    if not tail:
        raise EngineBroke(Failure(502, "engine_empty_answer", "the engine ended its answer unsaid", retryable=True))
    if framing.is_broken_off(tail):
        raise EngineBroke(Failure(502, "engine_disconnected", "the engine broke off its answer", retryable=True))


def _raise_error(framing: Framing, block: bytes, head: Start | None, reply: Reply, seam: Seam | None) -> None:
    """Put what stands before an error into the reply and raise its failure; return if there is none."""
    before = b""
    for frame in framing.split(block):
        failure = framing.read_error(frame)
        if failure is None:
            before += frame
            continue
        is_unsaid = framing.is_silence(before) or (head is not None and framing.is_opening(before))
        if not is_unsaid and (said := before if seam is None else seam.rewrite(before)):
            reply.put(ReplyEntry(start=head, data=said))
        raise engine_error(failure) if head is not None and is_unsaid else EngineFailed(failure)


async def _relay_whole(answer: EngineAnswer, start: Start, reply: Reply, settings: ProviderSettings) -> None:
    parts: list[bytes] = []
    total = 0
    async for chunk in answer.chunks():
        parts.append(chunk)
        total += len(chunk)
        if total > settings.max_answer_bytes:
            raise _too_large(settings.max_answer_bytes)
    body = b"".join(parts)
    if "json" in answer.content_type:
        try:
            said = orjson.loads(body)
        except ValueError as exc:
            failure = Failure(502, "engine_bad_answer", "the engine's answer is not JSON", retryable=True)
            raise EngineBroke(failure) from exc
        if (told := read_error_object(said)) is not None:
            raise engine_error(told)
    step = settings.reply_buffer_bytes
    reply.put(ReplyEntry(start=start, data=body[:step]))
    for at in range(step, len(body), step):
        await reply.room(step)
        reply.put_data(body[at : at + step])
    reply.put(ReplyEntry(end=read_usage(body, streamed=False)))


def _too_large(limit: int) -> EngineBroke:
    return EngineBroke(Failure(502, "answer_too_large", f"the answer is longer than {limit} bytes"))
