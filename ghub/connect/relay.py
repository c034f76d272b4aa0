"""Brings a client the answer of its call, from whichever hubs it takes.

Until the client has heard something, the same question goes to one hub after the other under one Idempotency-Key, so
that it runs once. After that the rest is asked for: of a stream what is behind the last entry that the client has, of a
whole answer the bytes behind those it has. A whole number of entries is delivered at a time, so nothing is told twice.

What becomes no job (lists of models, the dashboard, the operator's calls) goes to one hub, and to another one only
where that cannot do anything twice.
"""

import asyncio

import structlog
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from common.errors import BodyTooLong, ClientGone
from common.serving.bodies import Sender, collect_body
from ghub.connect.call import LOOKS, Call, make_call
from ghub.connect.client import HubClient, leave
from ghub.connect.errors import LEAVING, AnswerBroken, FrontStopping, HubFailed, NoHub
from ghub.connect.freeing import Freeing
from ghub.connect.hubs import Hub, Hubs
from ghub.connect.search import Search
from ghub.connect.settings import ConnectSettings
from ghub.connect.telling import hand_on, tell_refusal
from hub.api.errors import error_response
from hub.api.shapes import stream_shape_of
from hub.errors import BodyTimeout, BodyTooLarge, RequestFailed

log = structlog.get_logger()

LOOKS_PER_STALL = 4
"""How often in the time that a hub may be silent it is looked whether one is."""


class Relay:
    """Serves calls that become jobs, and those that read an answer."""

    def __init__(self, hubs: Hubs, client: HubClient, freeing: Freeing, settings: ConnectSettings) -> None:
        self._hubs = hubs
        self._client = client
        self._freeing = freeing
        self._settings = settings
        self._open: set[Call] = set()

    @property
    def open_count(self) -> int:
        """How many answers are under way."""
        return len(self._open)

    async def watch(self) -> None:
        """Leave hubs that are silent in the middle of an answer, until cancelled."""
        stall_s = self._settings.stall_s
        while True:
            await asyncio.sleep(stall_s / LOOKS_PER_STALL)
            now = asyncio.get_running_loop().time()
            for call in [*self._open]:
                if call.is_silent(now, stall_s):
                    call.cut()

    async def finish(self, limit_s: float) -> None:
        """Wait until all answers that are under way have ended, at most so long."""
        if tasks := [call.telling for call in self._open if call.telling is not None]:
            await asyncio.wait(tasks, timeout=limit_s)

    def end_all(self) -> None:
        """End every answer with an error: this front stops."""
        for call in self._open:
            if call.telling is not None:
                call.telling.cancel()

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        shape = stream_shape_of(scope["path"])
        try:
            body = None if scope["method"] in LOOKS else await self._body(scope, receive)
        except RequestFailed as exc:
            await error_response(exc, shape)(scope, receive, send)
            return
        except ClientGone:
            return
        call = make_call(scope, body, self._settings.api_key)
        self._open.add(call)
        try:
            await self._see_through(call, scope, receive, send)
        finally:
            self._open.discard(call)
            if not call.is_over:
                self._freeing.free(call)

    async def _see_through(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        call.telling = telling = asyncio.create_task(self._tell(call, scope, receive, send))
        watch = asyncio.create_task(_watch_client(call, receive))
        try:
            await asyncio.wait([telling])
        finally:
            watch.cancel()
            telling.cancel()
        if not telling.cancelled():
            telling.result()
        elif not call.is_gone:
            with Sender(send, self._settings.send_timeout_s) as sender:
                sender.has_begun = call.has_begun
                await self._fail(call, sender, FrontStopping("this front is stopping"), scope, receive, send)

    async def _tell(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell the answer as far as there is one, and why not all of it."""
        try:
            with Sender(send, self._settings.send_timeout_s) as sender:
                try:
                    await self._search(call, sender)
                except RequestFailed as exc:
                    await self._fail(call, sender, exc, scope, receive, send)
        except ClientGone as exc:
            log.info("client_gone", request=call.request, reason=str(exc))

    async def _fail(
        self, call: Call, sender: Sender, error: RequestFailed, scope: Scope, receive: Receive, send: Send
    ) -> None:
        log.warning("answer_failed", request=call.request, code=error.code, reason=error.message)
        if not sender.has_begun:
            await error_response(error, call.shape)(scope, receive, send)
        elif call.is_stream:
            await sender.body(call.shape.error_event(error), more=False)
        # else its length was told: the server closes the connection, and the client sees that it is not whole

    async def _search(self, call: Call, sender: Sender) -> None:
        """Ask hubs until one has told the end; RequestFailed if none will."""
        search, refusal = Search(self._hubs, self._settings.retry_s), None
        while (hub := await search.next()) is not None:
            try:
                with hub.carrying():
                    await self._ask(hub, call, sender)
            except HubFailed as exc:
                if not call.may_repeat and not exc.is_unsent:
                    raise AnswerBroken("the hub broke off; whether it did what was asked is not known") from exc
                refusal = exc.refusal or refusal
                if exc.refusal is None or exc.refusal.code is None or exc.refusal.code in LEAVING:
                    self._hubs.failed(hub, str(exc))
                if call.has_moved:
                    call.has_moved = False
                    search.allow(self._settings.resume_s, hub)
                log.info("asking_elsewhere", request=call.request, hub=hub.url, entry=call.entry, reason=str(exc))
            else:
                return
        if refusal is not None and not call.has_begun:
            await tell_refusal(call, refusal, sender)
            return
        raise NoHub("no hub can be reached at present", retry_after_s=self._settings.retry_after_s)

    async def _ask(self, hub: Hub, call: Call, sender: Sender) -> None:
        """Ask one hub, and tell the client what it says; HubFailed if that is not the end."""
        question, call.was_asked = call.next_question(), True
        call.hub, call.waits_since = hub, asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(None) as call.clock:
                call.response = await self._client.ask(
                    hub, question.method, question.target, question.headers, question.body
                )
        except TimeoutError as exc:
            raise HubFailed("it gives no sign of life") from exc
        finally:
            call.clock = call.waits_since = None
        try:
            await hand_on(call, call.response, sender)
        finally:
            leave(call.response)
            call.response = None

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """The body as the client sent it; ClientGone, or RequestFailed if it is too long or too slow."""
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                return await collect_body(Request(scope, receive), self._settings.max_body_bytes)
        except TimeoutError as exc:
            raise BodyTimeout(f"the body did not come within {self._settings.body_timeout_s:g} s") from exc
        except BodyTooLong as exc:
            raise BodyTooLarge(str(exc)) from exc


async def _watch_client(call: Call, receive: Receive) -> None:
    """End the telling when the client leaves."""
    while (await receive())["type"] != "http.disconnect":
        pass
    if call.telling is not None and not call.is_over:
        call.is_gone = True
        call.telling.cancel()
