"""The ASGI response that relays an answer: bytes from the inbox to the socket, as they are.

The status line is held until there is something to say under it, so a failure before that keeps its true status.
"""

import asyncio
from contextlib import suppress

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from common.errors import ClientGone
from common.serving import Sender
from hub.api.errors import error_response
from hub.api.shape import ApiShape
from hub.errors import AnswerTooLarge, RequestFailed
from hub.requests.dispatcher import Dispatcher
from hub.requests.limits import quota_headers
from hub.requests.request import OpenRequest
from hub.settings import HubSettings

log = structlog.get_logger()


class RelayResponse(Response):
    """Answers one open request, streamed or whole, and closes it whatever happens."""

    def __init__(self, request: OpenRequest, dispatcher: Dispatcher, shape: ApiShape, settings: HubSettings) -> None:
        # Response's own set-up is for a body that is known; this one says everything itself.
        self.background = None
        self._request = request
        self._dispatcher = dispatcher
        self._shape = shape
        self._settings = settings
        self._tail = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Relay until the answer, the request or the client ends."""
        watch = asyncio.create_task(self._watch_client(receive))
        sender = Sender(send, self._settings.send_timeout_s)
        try:
            await (self._stream(sender) if self._request.job.stream else self._whole(sender))
        except ClientGone as exc:
            log.info("client_gone", request=self._request.job.id, reason=str(exc))
        except RequestFailed as exc:
            self._request.failed_with = exc
            with suppress(ClientGone):
                await self._fail(exc, sender, scope, receive, send)
        finally:
            watch.cancel()
            self._dispatcher.close(self._request)

    async def _stream(self, sender: Sender) -> None:
        request = self._request
        loop = asyncio.get_running_loop()
        speak_at = loop.time() + self._settings.first_comment_s
        while not request.is_finished:
            await request.advance()
            data = request.take()
            now = loop.time()
            if data:
                await self._begin(sender)
                self._tail = data[-64:]
                await sender.body(data, more=True)
            elif now < speak_at or request.is_finished:
                continue
            else:
                await self._begin(sender)
                await sender.body(self._shape.keep_alive(self._standing(), request.job.model), more=True)
            speak_at = now + self._settings.comment_interval_s
        await self._begin(sender)
        await sender.body(self._missing_end(), more=False)

    async def _whole(self, sender: Sender) -> None:
        request = self._request
        limit = self._settings.max_answer_bytes
        while not request.is_finished:
            await request.advance()
            if request.untaken_bytes > limit:
                raise AnswerTooLarge(f"the answer is longer than {limit} bytes")
        body = request.take()
        start = request.start
        headers = [
            (b"content-type", self._content_type("application/json")),
            (b"content-length", b"%d" % len(body)),
        ]
        await sender.begin(start.status if start else 200, headers + self._own_headers())
        await sender.body(body, more=False)

    async def _fail(self, error: RequestFailed, sender: Sender, scope: Scope, receive: Receive, send: Send) -> None:
        if sender.has_begun:  # what came together with the failure was said before it
            await sender.body(self._request.take() + self._shape.error_event(error), more=False)
        else:
            headers = {name.decode(): value.decode() for name, value in self._own_headers()}
            await error_response(error, self._shape, headers)(scope, receive, send)

    async def _begin(self, sender: Sender) -> None:
        """Send the head of a stream, once."""
        if sender.has_begun:
            return
        start = self._request.start
        headers = [
            (b"content-type", self._content_type(self._shape.stream_type)),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
        ]
        await sender.begin(start.status if start else 200, headers + self._own_headers())

    def _content_type(self, default: str) -> bytes:
        """What the engine calls its answer, where that can stand in a header."""
        start = self._request.start
        told = start.content_type if start else default
        return (told if told.isascii() and told.isprintable() else "application/octet-stream").encode()

    def _own_headers(self) -> list[tuple[bytes, bytes]]:
        request = self._request
        headers = [(b"x-request-id", request.id.encode()), (b"request-id", request.id.encode())]
        headers += [(name.encode(), said.encode()) for name, said in quota_headers(request.place.quota).items()]
        if request.node is not None:
            headers.append((b"x-ghub-node", request.node.encode()))
            headers.append((b"x-ghub-attempt", b"%d" % request.job.attempt))
        if request.queued_ms is not None:
            headers.append((b"x-ghub-queue-ms", b"%d" % request.queued_ms))
        return headers

    def _standing(self) -> str:
        """Where the request stands, in words."""
        request, place = self._request, self._request.place
        if not request.is_waiting:
            return f"running on {request.node}"
        about = "" if place.wait_s is None else f", about {max(1, round(place.wait_s))} s"
        return f"queued, {place.ahead} ahead{about}"

    def _missing_end(self) -> bytes:
        """The end of the stream, if its engine left it out."""
        start = self._request.start
        is_stream = start is None or start.content_type.startswith(self._shape.stream_type)
        ended = self._tail.rstrip().endswith(self._shape.stream_end.rstrip())
        return b"" if ended or not is_stream else self._shape.stream_end

    async def _watch_client(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._request.abandon()
