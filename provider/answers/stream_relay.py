"""A streamed answer on its way from an engine to a reply: whole events or lines, as they came."""

from collections import deque
from collections.abc import AsyncIterator

from common.wire import Failure, ReplyEntry, Start, Usage
from provider.answers.stall_clock import StallClock
from provider.continuing.seam import Seam
from provider.errors import EngineBroke, EngineFailed
from provider.protocol.engine import EngineAnswer
from provider.protocol.failures import broke_off, engine_error, may_hold_error, too_large
from provider.protocol.framing import Framing
from provider.protocol.lines import LineSplitter
from provider.protocol.usage import estimate_usage
from provider.replies.reply import Reply
from provider.settings import ProviderSettings

MAX_OPENING_BYTES = 64 * 1024
RECENT_BLOCKS = 8
"""Usage stands in one of the last few events, which may be as long as the whole answer."""


class StreamRelay:
    """One stream. `block`: whole frames, as many as came together.

    Whatever a client hears binds it to this attempt: what stands before the first word waits for it. And a client that
    has heard the last word may leave at once: it is said together with the end.

    Args:
        framing: how the stream is cut.
        start: how the answer begins.
        reply: takes it.
        settings: its limits.
        seam: where an answer is gone on with; None: it begins here.
    """

    def __init__(
        self, framing: Framing, start: Start, reply: Reply, settings: ProviderSettings, seam: Seam | None
    ) -> None:
        self._framing = framing
        self._reply = reply
        self._settings = settings
        self._seam = seam
        self._head: Start | None = start
        """Until the first word."""
        self._opening = b""
        self._last: ReplyEntry | None = None
        """What seems to be the last word."""
        self._recent: deque[bytes] = deque(maxlen=RECENT_BLOCKS)
        self._mark = framing.end if framing.end == LineSplitter.end else b"data:"
        self._total_bytes = 0

    async def run(self, answer: EngineAnswer, clock: StallClock) -> Usage:
        """Relay all of it, the end included; what this engine's part of the answer took.

        Raises:
            EngineFailed: it broke off, told of an error, said nothing or too much; what came before is in the reply.
        """
        is_silence, limit_bytes = self._framing.is_silence, self._settings.reply_buffer_bytes
        try:
            async for block in _blocks(answer, self._framing):
                if self._head is None:
                    if not is_silence(block):
                        clock.tick()
                    elif self._last is not None:
                        continue
                    self._take_in(block)
                elif not self._is_before_words(block):
                    clock.tick()
                    self._opening += block
                    self._take_in(self._opening)
                await self._reply.room(limit_bytes)
        except EngineBroke:
            if self._last is None:  # one that has said its last word may break off
                raise
        return self._finish(answer)

    def _is_before_words(self, block: bytes) -> bool:
        """Whether the first word is still to come; then this waits with what came before."""
        if self._framing.is_silence(block):
            self._opening += block if self._opening else b""  # in its place: a CR LF may be cut between the two
            return True
        if len(self._opening) < MAX_OPENING_BYTES and self._framing.is_opening(block):
            self._opening += block
            return True
        return False

    def _take_in(self, block: bytes) -> None:
        if self._last is not None:  # it was not
            self._reply.put(self._last)
            self._last = None
        if may_hold_error(block):
            self._raise_error(block)
        self._total_bytes += len(block)
        if self._total_bytes > self._settings.max_answer_bytes:
            raise too_large(self._settings.max_answer_bytes)
        self._recent.append(block)
        self._reply.events += block.count(self._mark)
        is_last = self._framing.is_end(block)
        if self._seam is not None and not (block := self._seam.rewrite(block)):
            self._opening = b""
        elif is_last:
            self._last, self._head = ReplyEntry(start=self._head, data=block), None
        elif self._head is not None:
            self._reply.put(ReplyEntry(start=self._head, data=block))
            self._head = None
        else:
            self._reply.put_data(block)

    def _raise_error(self, block: bytes) -> None:
        """Put what stands before an error into the reply and raise its failure; return if there is none."""
        before = b""
        for frame in self._framing.split(block):
            failure = self._framing.read_error(frame)
            if failure is None:
                before += frame
                continue
            is_unbegun = self._head is not None
            is_unsaid = self._framing.is_silence(before) or (is_unbegun and self._framing.is_opening(before))
            if not is_unsaid and (said := before if self._seam is None else self._seam.rewrite(before)):
                self._reply.put(ReplyEntry(start=self._head, data=said))
            raise engine_error(failure) if is_unbegun and is_unsaid else EngineFailed(failure)

    def _finish(self, answer: EngineAnswer) -> Usage:
        tail = b"".join(self._recent)
        if not tail:
            raise EngineBroke(Failure(502, "engine_empty_answer", "the engine ended its answer unsaid", retryable=True))
        if self._framing.is_broken_off(tail):
            raise broke_off()
        usage = self._complete(answer.usage or self._framing.read_usage(tail, self._opening), tail)
        end = usage if self._seam is None else self._seam.sum(usage)
        self._reply.put((self._last or ReplyEntry(start=self._head))._replace(end=end))
        return usage

    def _complete(self, told: Usage, tail: bytes) -> Usage:
        """What the engine told; where it left out the answer's tokens, an estimate by the events that it had."""
        if told.completion_tokens is not None:
            return told
        return estimate_usage(told, self._reply.events, [one for one in self._framing.split(tail) if self._mark in one])


async def _blocks(answer: EngineAnswer, framing: Framing) -> AsyncIterator[bytes]:
    """Whole events or lines as they come; the last one may have been left without its end."""
    async for chunk in answer.chunks():
        if block := framing.feed(chunk):
            yield block
    if (rest := framing.finish()).strip():
        yield rest + framing.end
