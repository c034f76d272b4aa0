"""The ASGI response that relays an answer: bytes from the inbox to the socket, as they are.

The status line is held until there is something to say under it, so a failure before that keeps its true status.
"""

import asyncio

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from common.errors import ClientGone
from common.serving.bodies import Sender
from hub.api.answer_head import Provenance, missing_end, stream_head, whole_head
from hub.api.errors import error_response
from hub.api.shape import ApiShape, Waiting
from hub.errors import AnswerTooLarge, RequestFailed
from hub.requests.dispatcher import Dispatcher
from hub.requests.request import OpenRequest
from hub.resume.following import standing
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
        try:
            with Sender(send, self._settings.send_timeout_s) as sender:
                try:
                    await (self._stream(sender) if self._request.job.stream else self._whole(sender))
                except RequestFailed as exc:
                    self._request.failed_with = exc
                    await self._fail(exc, sender, scope, receive, send)
        except ClientGone as exc:
            log.info("client_gone", request=self._request.job.id, reason=str(exc))
        except Exception:  # the hub's own fault: the request ends as failed, and it is logged where it ends up
            self._request.failed_with = RequestFailed("The hub failed on this request.")
            raise
        finally:
            watch.cancel()
            self._dispatcher.close(self._request)

    async def _stream(self, sender: Sender) -> None:
        request = self._request
        loop = asyncio.get_running_loop()
        interval_s = self._settings.comment_interval_s
        speak_at = loop.time() + self._settings.first_comment_s
        is_finished = request.is_finished
        while not is_finished:
            await request.advance()
            data, is_finished = request.take(), request.is_finished
            now = loop.time()
            if data:
                if not sender.has_begun:
                    await self._begin(sender)
                self._tail = data
                await sender.body(data, more=True)
            elif now < speak_at or is_finished:
                continue
            else:
                await self._begin(sender)
                waiting = Waiting(request.job.model, standing(request))
                await sender.body(self._shape.keep_alive(waiting), more=True)
            speak_at = now + interval_s
        await self._begin(sender)
        shape = self._shape
        await sender.body(missing_end(request.start, shape.stream_type, shape.stream_end, self._tail[-64:]), more=False)

    async def _whole(self, sender: Sender) -> None:
        request = self._request
        limit = self._settings.max_answer_bytes
        while not request.is_finished:
            await request.advance()
            if request.untaken_bytes > limit:
                raise AnswerTooLarge(f"the answer is longer than {limit} bytes")
        body = request.take()
        await sender.begin(*whole_head(request.start, len(body), self._provenance()))
        await sender.body(body, more=False)

    async def _fail(self, error: RequestFailed, sender: Sender, scope: Scope, receive: Receive, send: Send) -> None:
        if sender.has_begun:  # what came together with the failure was said before it
            if self._request.trail is not None:
                self._request.trail.status = 200
            await sender.body(self._request.take() + self._shape.error_event(error), more=False)
        else:
            await error_response(error, self._shape, self._provenance().headers())(scope, receive, send)

    async def _begin(self, sender: Sender) -> None:
        """Send the head of a stream, once."""
        if not sender.has_begun:
            await sender.begin(*stream_head(self._request.start, self._shape.stream_type, self._provenance()))

    def _provenance(self) -> Provenance:
        request = self._request
        return Provenance(request.id, request.place.quota, request.node, request.job.attempt, request.queued_ms)

    async def _watch_client(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._request.abandon()
