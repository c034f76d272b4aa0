"""The ASGI response that relays an answer: bytes from the inbox to the socket, as they are.

The status line is held until there is something to say under it, so a failure before that keeps its true status.
"""

import asyncio
from contextlib import suppress

import structlog
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from hub.api.errors import error_response
from hub.api.shape import ApiShape
from hub.dispatcher import Dispatcher
from hub.errors import AnswerTooLarge, ClientGone, RequestFailed
from hub.request import OpenRequest
from hub.settings import HubSettings

log = structlog.get_logger()

PIECE_BYTES = 64 * 1024
"""Sent at once: the clock on a client that reads nothing must not catch one that reads a large answer slowly."""
EVENT_STREAM = "text/event-stream"
"""The media type of server-sent events."""


class RelayResponse(Response):
    """Answers one open request, streamed or whole, and closes it whatever happens."""

    def __init__(self, request: OpenRequest, dispatcher: Dispatcher, shape: ApiShape, settings: HubSettings) -> None:
        # Response's own set-up is for a body that is known; this one says everything itself.
        self.background = None
        self._request = request
        self._dispatcher = dispatcher
        self._shape = shape
        self._settings = settings
        self._has_begun = False
        self._tail = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Relay until the answer, the request or the client ends."""
        watch = asyncio.create_task(self._watch_client(receive))
        try:
            await (self._stream(send) if self._request.job.stream else self._whole(send))
        except ClientGone as exc:
            log.info("client_gone", request=self._request.job.id, reason=str(exc))
        except RequestFailed as exc:
            self._request.failed_with = exc
            with suppress(ClientGone):
                await self._fail(exc, scope, receive, send)
        finally:
            watch.cancel()
            self._dispatcher.close(self._request)

    async def _stream(self, send: Send) -> None:
        request = self._request
        loop = asyncio.get_running_loop()
        speak_at = loop.time() + self._settings.first_comment_s
        while not request.is_finished:
            await request.advance()
            data = request.take()
            now = loop.time()
            if data:
                await self._begin(send)
                request.has_sent = True
                self._tail = data[-64:]
                await self._send_body(send, data, more=True)
            elif now < speak_at or request.is_finished:
                continue
            else:
                await self._begin(send)
                await self._send_body(send, self._comment(), more=True)
            speak_at = now + self._settings.comment_interval_s
        await self._begin(send)
        await self._send_body(send, self._missing_end())

    async def _whole(self, send: Send) -> None:
        request = self._request
        parts: list[bytes] = []
        size = 0
        while not request.is_finished:
            await request.advance()
            if request.start is None:  # also after a new attempt: what the last one said counts no more
                parts, size = [], 0
            data = request.take()
            size += len(data)
            if size > self._settings.max_answer_bytes:
                raise AnswerTooLarge(f"the answer is longer than {self._settings.max_answer_bytes} bytes")
            parts.append(data)
        body = b"".join(parts)
        start = request.start
        headers = [
            (b"content-type", self._content_type("application/json")),
            (b"content-length", b"%d" % len(body)),
        ]
        await self._open(send, start.status if start else 200, headers)
        await self._send_body(send, body)

    async def _fail(self, error: RequestFailed, scope: Scope, receive: Receive, send: Send) -> None:
        if self._has_begun:  # what came together with the failure was said before it
            await self._send_body(send, self._request.take() + self._shape.error_event(error))
        else:
            headers = {name.decode(): value.decode() for name, value in self._own_headers()}
            await error_response(error, self._shape, headers)(scope, receive, send)

    async def _begin(self, send: Send) -> None:
        """Send the head of a stream, once."""
        if self._has_begun:
            return
        start = self._request.start
        headers = [
            (b"content-type", self._content_type(EVENT_STREAM)),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
        ]
        await self._open(send, start.status if start else 200, headers)

    async def _open(self, send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._has_begun = True
        head = {"type": "http.response.start", "status": status, "headers": headers + self._own_headers()}
        await self._send(send, head)

    def _content_type(self, default: str) -> bytes:
        """What the engine calls its answer, where that can stand in a header."""
        start = self._request.start
        told = start.content_type if start else default
        return (told if told.isascii() and told.isprintable() else "application/octet-stream").encode()

    def _own_headers(self) -> list[tuple[bytes, bytes]]:
        request = self._request
        headers = [(b"x-request-id", request.job.id.encode())]
        if request.node is not None:
            headers.append((b"x-ghub-node", request.node.encode()))
            headers.append((b"x-ghub-attempt", b"%d" % request.job.attempt))
        if request.queued_ms is not None:
            headers.append((b"x-ghub-queue-ms", b"%d" % request.queued_ms))
        return headers

    def _comment(self) -> bytes:
        if self._request.is_waiting:
            return b": queued, %d ahead\n\n" % self._request.ahead
        return b": running on %b\n\n" % str(self._request.node).encode()

    def _missing_end(self) -> bytes:
        """The end of the stream, if its engine left it out."""
        start = self._request.start
        is_events = start is None or start.content_type.startswith(EVENT_STREAM)
        ended = self._tail.rstrip().endswith(self._shape.stream_end.rstrip())
        return b"" if ended or not is_events else self._shape.stream_end

    async def _send_body(self, send: Send, body: bytes, *, more: bool = False) -> None:
        for at in range(0, len(body) or 1, PIECE_BYTES):
            piece, end = body[at : at + PIECE_BYTES], at + PIECE_BYTES
            await self._send(send, {"type": "http.response.body", "body": piece, "more_body": more or end < len(body)})

    async def _send(self, send: Send, message: Message) -> None:
        try:
            async with asyncio.timeout(self._settings.send_timeout_s):
                await send(message)
        except TimeoutError as exc:
            raise ClientGone(f"the client read nothing for {self._settings.send_timeout_s:g} s") from exc
        except OSError as exc:
            raise ClientGone(str(exc)) from exc

    async def _watch_client(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._request.abandon()
