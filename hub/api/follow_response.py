"""The ASGI response of a client that reads along with a request: when it leaves, only its reading ends.

The first client of a request that can be resumed reads along too. Streams of server-sent events carry the line `id:`
before each event, with which a client goes on where it stopped, at any hub. Programs that hand a stream on may have it
told entry by entry instead (`hub/api/entry_frames.py`).
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import structlog
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from common.errors import ClientGone
from common.serving.bodies import Sender
from common.types import RequestId
from hub.api.answer_head import Provenance, empty_head, missing_end, stream_head, whole_head
from hub.api.entry_frames import END, ENTRIES_HEADER, OWN, error_mark, frame, wants_entries
from hub.api.errors import error_response
from hub.api.event_ids import EventIds
from hub.api.shape import ApiShape, Waiting
from hub.api.sse import EVENT_STREAM
from hub.api.wishes import RESUMABLE_HEADER
from hub.errors import AnswerTooLarge, AttemptFailed, RequestFailed
from hub.relay.retelling import Piece, Retelling
from hub.resume.following import Following
from hub.resume.position import Position, not_in
from hub.settings import HubSettings

log = structlog.get_logger()

TAIL_BYTES = 64
RETRY_STATUSES = (429, 503)


class FollowResponse(Response):
    """Answers one client.

    Args:
        reading: entered when the answer begins, left when the client has it or is gone.
        shape: of the API that the request came in by.
        after: the last event that the client has; None: it has none.
        headers: to be sent beside those of every answer.
    """

    def __init__(
        self,
        reading: AbstractContextManager[Following],
        shape: ApiShape,
        settings: HubSettings,
        *,
        after: Position | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        # Response's own set-up is for a body that is known; this one says everything itself.
        self.background = None
        self._reading = reading
        self._shape = shape
        self._settings = settings
        self._after = after
        self._more = {**(headers or {})}
        self._is_gone = False
        self._in_entries = False
        """Whether the client wants a stream told entry by entry."""
        self._ids_wanted = True
        """Whether it wants the line `id:` then, too."""
        self._request: RequestId | None = None
        """Once it is read."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell the answer until it, the request or the client ends."""
        wishes = Headers(scope=scope)
        self._in_entries = wants_entries(wishes)
        self._ids_wanted = not self._in_entries or wishes.get(RESUMABLE_HEADER) == "1"
        watch = asyncio.create_task(self._watch_client(receive))
        try:
            with Sender(send, self._settings.send_timeout_s) as sender:
                failed, headers = await self._tell(sender)
                if failed is not None and sender.has_begun:
                    await sender.body(
                        self._framed(error_mark(failed.code), self._shape.error_event(failed)), more=False
                    )
                elif failed is not None:
                    await error_response(failed, self._shape, headers)(scope, receive, send)
        except ClientGone as exc:
            log.info("reader_gone", request=self._request, reason=str(exc))
        finally:
            watch.cancel()

    async def _tell(self, sender: Sender) -> tuple[RequestFailed | None, dict[str, str]]:
        """Tell the answer as far as there is one; why not all of it, and the headers of that."""
        headers = self._more
        try:
            with self._reading as following:
                self._request = following.request
                told = Retelling(is_stream=following.is_stream)
                try:
                    await (self._stream if following.is_stream else self._whole)(following, told, sender)
                except RequestFailed:
                    headers = self._provenance(following, told).headers()
                    raise
        except RequestFailed as exc:
            return exc, headers
        return None, headers

    async def _stream(self, following: Following, told: Retelling, sender: Sender) -> None:
        loop = asyncio.get_running_loop()
        speak_at = loop.time() + self._settings.first_comment_s
        ids = EventIds(self._after)
        tail = b""
        while not told.is_over:
            pieces = told.read_on(await following.advance())
            self._check_client()
            if pieces:
                tail = b"".join(data for _, data in pieces[-2:])[-TAIL_BYTES:]
            said = self._events(ids, told, pieces)
            now = loop.time()
            if not said and (now < speak_at or told.is_over):
                continue
            await self._begin(following, told, sender)
            await sender.body(said or self._framed(OWN, self._keep_alive(following, told)), more=True)
            speak_at = now + self._settings.comment_interval_s
        self._check_end(told)
        ids.check_found()
        end = missing_end(told.start, self._shape.stream_type, self._shape.stream_end, tail)
        if self._after is not None and not sender.has_begun and not end:
            # It has everything. Browsers that come back by themselves do so again and again until they hear this.
            await sender.begin(*empty_head(self._provenance(following, told)))
        else:
            await self._begin(following, told, sender)
        await sender.body(self._framed(END, end), more=False)

    async def _whole(self, following: Following, told: Retelling, sender: Sender) -> None:
        if self._after is not None:
            raise not_in(self._after)
        while not told.is_over:
            told.read_on(await following.advance())
            self._check_client()
            if told.size_bytes > self._settings.max_answer_bytes:
                raise AnswerTooLarge(f"the answer is longer than {self._settings.max_answer_bytes} bytes")
        self._check_end(told)
        body = told.take()
        await sender.begin(*whole_head(told.start, len(body), self._provenance(following, told)))
        await sender.body(body, more=False)

    async def _begin(self, following: Following, told: Retelling, sender: Sender) -> None:
        """Send the head of a stream, once."""
        if not sender.has_begun:
            if self._in_entries:
                self._more[ENTRIES_HEADER] = "1"
            await sender.begin(*stream_head(told.start, self._shape.stream_type, self._provenance(following, told)))

    def _events(self, ids: EventIds, told: Retelling, pieces: Sequence[Piece]) -> bytes:
        """What the client is told of these pieces."""
        if not self._in_entries:
            return b"".join(ids.write(*piece) for piece in pieces) if self._has_ids(told) else _joined(pieces)
        write = ids.write if self._ids_wanted and self._is_events(told) else ids.skip
        told_now = [(entry, write(entry, data)) for entry, data in pieces]
        return b"".join(frame(str(entry), data) for entry, data in told_now if data)

    def _framed(self, what: str, data: bytes) -> bytes:
        return frame(what, data) if self._in_entries else data

    def _keep_alive(self, following: Following, told: Retelling) -> bytes:
        return self._shape.keep_alive(Waiting(following.model, following.standing(told.node)))

    def _is_events(self, told: Retelling) -> bool:
        is_events = told.start is None or told.start.content_type.startswith(EVENT_STREAM)
        return is_events and self._shape.stream_type == EVENT_STREAM

    def _has_ids(self, told: Retelling) -> bool:
        """Whether its events can be named; lines of JSON have no place for that."""
        if self._is_events(told):
            return True
        if self._after is not None:
            raise not_in(self._after)
        return False

    def _check_end(self, told: Retelling) -> None:
        if told.failure is not None:
            is_passing = told.failure.status in RETRY_STATUSES
            raise AttemptFailed(told.failure, retry_after_s=self._settings.retry_after_s if is_passing else None)

    def _check_client(self) -> None:
        if self._is_gone:
            raise ClientGone("the client closed the connection")

    def _provenance(self, following: Following, told: Retelling) -> Provenance:
        return Provenance(
            following.request, following.quota, told.node, told.attempt, following.queued_ms, more=self._more
        )

    async def _watch_client(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._is_gone = True


def _joined(pieces: Sequence[Piece]) -> bytes:
    return b"".join(data for _, data in pieces)
