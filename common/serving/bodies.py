"""Bodies: a request's as it comes, up to a limit; an answer's as it goes, to a client that must take it in time."""

import asyncio
from collections.abc import Callable
from typing import Any, Self

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Send

from common.errors import BodyTooLong, ClientGone

PIECE_BYTES = 64 * 1024
"""Sent at once: the clock on a client that reads nothing must not catch one that reads a large answer slowly."""


async def collect_body(request: Request, limit_bytes: int, on_part: Callable[[int], None] = lambda _: None) -> bytes:
    """A request's body as it was sent.

    Args:
        request: whose body was not read yet.
        limit_bytes: longer ones are not taken.
        on_part: hears how many bytes came with each part; what it raises ends the reading.

    Raises:
        BodyTooLong: it is longer than allowed; the rest is not read.
        ClientGone: the connection ended within it.
    """
    told = request.headers.get("content-length", "0")
    if told.isdecimal() and int(told) > limit_bytes:
        raise BodyTooLong(f"the body has {told} bytes, the limit is {limit_bytes}")
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit_bytes:
                raise BodyTooLong(f"the body has more than {limit_bytes} bytes")
            on_part(len(part))
            parts.append(part)
    except ClientDisconnect as exc:
        raise ClientGone("the client closed the connection within its body") from exc
    return b"".join(parts)


class Sender:
    """Writes one answer, in pieces, each of which the client must take within a time limit.

    Used as a context by the task that answers. Every method raises ClientGone where the client does not take it. One
    timer looks now and then how long the present piece has waited, since one for each piece cost a third of sending it:
    a limit may be noticed late by a quarter of it.
    """

    def __init__(self, send: Send, timeout_s: float) -> None:
        self._send = send
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waits_since: float | None = None
        self._is_late = False
        self.has_begun = False

    def __enter__(self) -> Self:
        """Begin to look at the clock."""
        self._task = asyncio.current_task()
        self._timer = self._loop.call_later(self._timeout_s / 4, self._look_at_clock)
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()

    async def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Send the head."""
        self.has_begun = True
        await self._put({"type": "http.response.start", "status": status, "headers": headers})

    async def body(self, data: bytes, *, more: bool) -> None:
        """Send a part of the body, or with `more` unset the last of it."""
        for at in range(0, len(data) or 1, PIECE_BYTES):
            piece, end = data[at : at + PIECE_BYTES], at + PIECE_BYTES
            await self._put({"type": "http.response.body", "body": piece, "more_body": more or end < len(data)})

    async def _put(self, message: Message) -> None:
        self._waits_since = self._loop.time()
        try:
            await self._send(message)
        except asyncio.CancelledError:
            if not self._is_late or self._task is None:
                raise
            self._task.uncancel()
            raise ClientGone(f"the client read nothing for {self._timeout_s:g} s") from None
        except OSError as exc:
            raise ClientGone(str(exc)) from exc
        finally:
            self._waits_since = None

    def _look_at_clock(self) -> None:
        since = self._waits_since
        if since is not None and self._loop.time() - since >= self._timeout_s and self._task is not None:
            self._is_late = True
            self._task.cancel()
        else:
            self._timer = self._loop.call_later(self._timeout_s / 4, self._look_at_clock)
