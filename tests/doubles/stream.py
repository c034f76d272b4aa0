"""How the test engine puts a streamed answer on the wire, and breaks it off."""

import asyncio
import os
from collections.abc import Sequence
from typing import NoReturn, Protocol

from aiohttp import web

from tests.doubles.faults import Break, Faults
from tests.doubles.ledger import Outcome, Record

EXIT_STATUS = 3
"""What a process ended by `exit_after` leaves behind."""

_COMMENT_EVERY = 4


class Spoken(Protocol):
    """An answer in the form of some API, ready to be sent whole or in pieces."""

    content_type: str
    comment: bytes
    broken_event: bytes

    def opening(self) -> list[bytes]: ...
    def tokens(self, start: int, stop: int) -> bytes: ...
    def ending(self, *, has_done: bool) -> list[bytes]: ...
    def done(self) -> bytes: ...
    def error_event(self) -> bytes: ...
    def document(self) -> bytes: ...


class EventStream:
    """One streamed answer on its way to the client."""

    def __init__(self, request: web.Request, answer: Spoken, faults: Faults, record: Record) -> None:
        self._request = request
        self._answer = answer
        self._faults = faults
        self._record = record
        headers = {"content-type": answer.content_type, "cache-control": "no-cache"}
        self._response = web.StreamResponse(headers=headers)

    async def send(self, count: int) -> web.StreamResponse:
        """Send an answer of count tokens, or as much of it as the faults allow; return the ended response."""
        await self._response.prepare(self._request)
        await pause(self._faults.prefill_ms)
        for event in self._answer.opening():
            await self._write(event)
        reached, broken_by = self._faults.first_break(count)
        await self._send_tokens(reached)
        if broken_by is None:
            await self._send_ending(self._answer.ending(has_done=not self._faults.close_without_done))
        else:
            await self._break_off(broken_by)
        await self._response.write_eof()
        return self._response

    async def _send_tokens(self, count: int) -> None:
        """Send count token events at an even pace, `per_write` of them to a write."""
        loop = asyncio.get_running_loop()
        step, gap_s = self._faults.per_write, self._faults.delay_ms / 1000
        due = loop.time()
        for nth, start in enumerate(range(0, count, step)):
            stop = min(start + step, count)
            # Due times are absolute, so a late wake-up does not slow the stream. Without a delay this still
            # lets the loop turn, so no stream starves the others and a lost client is noticed.
            due += gap_s * (stop - start)
            await asyncio.sleep(max(0.0, due - loop.time()) if gap_s else 0)
            if self._faults.bad_json and start == 0:
                events = self._answer.broken_event + self._answer.tokens(1, stop)
            else:
                events = self._answer.tokens(start, stop)
            if self._faults.comments and nth % _COMMENT_EVERY == 0:
                events = self._answer.comment + events
            await self._write(events)

    async def _send_ending(self, events: Sequence[bytes]) -> None:
        step = self._faults.per_write
        for start in range(0, len(events), step):
            await self._write(b"".join(events[start : start + step]))

    async def _break_off(self, how: Break) -> None:
        if how is Break.STALL:
            await forever()
        self._record.outcome = Outcome.FAILED
        if how is Break.CUT:
            await aborted(self._request)
        if how is Break.EXIT:
            await exited(self._request)
        await self._write(self._answer.error_event())
        if not self._faults.close_without_done:
            await self._write(self._answer.done())

    async def _write(self, data: bytes) -> None:
        size = self._faults.split_bytes or len(data) or 1
        for start in range(0, len(data), size):
            await self._response.write(data[start : start + size])
            if size < len(data):
                await asyncio.sleep(0)


async def pause(duration_ms: float) -> None:
    """Wait, if there is anything to wait for."""
    if duration_ms:
        await asyncio.sleep(duration_ms / 1000)


async def forever() -> NoReturn:
    """Wait until the client goes away, which cancels the waiting handler."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("a future that nobody holds was resolved")


async def aborted(request: web.Request) -> NoReturn:
    """Drop the connection once the client has what was written, then end as any handler of a lost client."""
    await _flushed(request)
    if request.transport is not None:
        request.transport.abort()
    await forever()


async def exited(request: web.Request) -> NoReturn:
    """End the process at once, as a crash does, once the client has what was written."""
    await _flushed(request)
    os._exit(EXIT_STATUS)


async def _flushed(request: web.Request) -> None:
    """Wait until the kernel has all that was written: what is buffered here is lost with the connection."""
    # A transport tells nobody when its buffer runs empty.
    while request.transport is not None and request.transport.get_write_buffer_size():  # noqa: ASYNC110
        await asyncio.sleep(0.001)
