"""One engine call: its bytes into a reply, whole events or lines at a time, watched by the two stall clocks."""

import orjson

from common.types import NodeId
from common.wire import Failure, Job, ReplyEntry, Start, Usage
from provider.answers.stall_clock import StallClock
from provider.answers.stream_relay import StreamRelay
from provider.continuing.obstacles import Obstacle, cannot_continue
from provider.continuing.seam import Seam
from provider.errors import EngineBroke, EngineRefused
from provider.protocol.engine import Engine, EngineAnswer, Question, read_whole
from provider.protocol.failures import bad_answer, engine_error, read_error_object
from provider.protocol.framing import framing_of
from provider.protocol.usage import read_usage
from provider.replies.reply import Reply
from provider.settings import ProviderSettings
from provider.telemetry.trail import WorkTrail


async def relay_answer(
    engine: Engine,
    job: Job,
    reply: Reply,
    node: NodeId,
    settings: ProviderSettings,
    seam: Seam | None = None,
    trail: WorkTrail | None = None,
) -> None:
    """Ask the engine and put its whole answer into the reply, the end included.

    Args:
        engine: whom to ask.
        job: what is asked.
        reply: takes the answer.
        node: whose engine it is.
        settings: its limits.
        seam: where the answer is gone on with; None: it begins here.
        trail: of this attempt; None where nothing is traced.

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
    if trail is None:
        await _relay(engine, question, reply, node, settings, seam, clock)
        return
    with trail.asking(question) as asked:
        try:
            asked.usage = await _relay(engine, asked.question, reply, node, settings, seam, clock)
        finally:
            asked.heard(clock.begun_at)
            if asked.tells_content:
                asked.told(reply.said())


async def _relay(
    engine: Engine,
    question: Question,
    reply: Reply,
    node: NodeId,
    settings: ProviderSettings,
    seam: Seam | None,
    clock: StallClock,
) -> Usage:
    """Relay the answer to a question; what the engine took for it."""
    try:
        async with clock.timer, engine.ask(question) as answer:
            start = Start(answer.status, answer.content_type, node, "" if seam is None else str(seam.after))
            framing = framing_of(answer.content_type, settings.engine.max_event_bytes)
            if framing is not None:
                return await StreamRelay(framing, start, reply, settings, seam).run(answer, clock)
            if seam is None:
                return await _relay_whole(answer, start, reply, settings)
            raise bad_answer("the engine's answer is no stream")
    except EngineRefused as exc:
        if question.said is None or exc.failure.retryable:
            raise
        raise cannot_continue(Obstacle.REFUSED, exc.failure.message) from exc  # the client's own body was taken before
    except TimeoutError as exc:
        if not question.stream:
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


async def _relay_whole(answer: EngineAnswer, start: Start, reply: Reply, settings: ProviderSettings) -> Usage:
    body = await read_whole(answer, settings.max_answer_bytes)
    if "json" in answer.content_type:
        try:
            said = orjson.loads(body)
        except ValueError as exc:
            raise bad_answer("the engine's answer is not JSON") from exc
        if (told := read_error_object(said)) is not None:
            raise engine_error(told)
    step = settings.reply_buffer_bytes
    reply.put(ReplyEntry(start=start, data=body[:step]))
    for at in range(step, len(body), step):
        await reply.room(step)
        reply.put_data(body[at : at + step])
    usage = read_usage(body)
    reply.put(ReplyEntry(end=usage))
    return usage
