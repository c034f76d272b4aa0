"""The requests of the whole grid, for the operator: which are open, how one stands, and the end of one."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog

from common.keys import Keys
from common.records.request_book import RequestBook, is_request_id, number_of
from common.streams.jobs import lanes_of
from common.streams.last_word import LastWords
from common.streams.replies import ReplyStreams, ReplyWrite, Written
from common.types import HubId, ModelId, RequestId, RequestStatus
from common.wire import LAST_WORD, Failure, ReplyEntry
from hub.asking import asking_broker
from hub.errors import AttemptFailed, Conflict, NotFound
from hub.grid.registry_view import RegistryView
from hub.requests.dispatcher import Dispatcher
from hub.settings import HubSettings

log = structlog.get_logger()

OPEN = (RequestStatus.QUEUED, RequestStatus.CLAIMED, RequestStatus.STREAMING)
MOST_LOOKED_AT = 10_000
BATCH = 500
UNREAD_MS = 60_000
"""How long a last word stays that nobody reads, because its request ended in that moment."""
_TEXTS = ("status", "model", "endpoint", "hub", "node", "lane", "key", "error")
_NUMBERS = ("attempt", "queued_at", "claimed_at", "first_data_at", "ended_at", "prompt_tokens", "completion_tokens")

CANCELLED = Failure(
    status=410,  # not one that SDKs answer by trying again
    code="cancelled_by_operator",
    message="The operator of this grid cancelled this request.",
    type="invalid_request_error",
)
CANCELLED_BY_CLIENT = replace(
    CANCELLED, code="cancelled_by_client", message="The client that made this request cancelled it."
)


class RequestDesk:
    """What an operator does with requests, whichever hub holds them. Raises BrokerAway from every method."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        view: RegistryView,
        book: RequestBook,
        replies: ReplyStreams,
        last_words: LastWords,
        keys: Keys,
        settings: HubSettings,
    ) -> None:
        self._dispatcher = dispatcher
        self._view = view
        self._book = book
        self._replies = replies
        self._last_words = last_words
        self._keys = keys
        self._retry_after_s = settings.retry_after_s

    async def open_ones(self, status: RequestStatus | None, model: str | None, limit: int) -> dict[str, Any]:
        """Open requests, those that run first: what nodes say they run, what waits in lanes, what this hub holds.

        Args:
            status: one of `OPEN`; None: any of them.
            model: its name as nodes serve it; None: any.
            limit: most to show; `has_more` tells whether there are further ones.
        """
        wanted = set(OPEN if status is None else [status])
        models = self._view.known if model is None else [ModelId(model)]
        found: list[dict[str, Any]] = []
        with asking_broker("requests", self._retry_after_s):
            waiting = await self._book.waiting(lanes_of(sorted(models)), MOST_LOOKED_AT)
            running = [request for node in self._view.nodes.values() for request in node.requests]
            held = [request.job.id for request in self._dispatcher.open_requests]
            names = [one for one in dict.fromkeys([*running, *held, *waiting]) if is_request_id(one)]
            for start in range(0, min(len(names), MOST_LOOKED_AT), BATCH):
                for request, fields in (await self._book.read(names[start : start + BATCH])).items():
                    if fields.get("status") in wanted and model in (None, fields.get("model")):
                        found.append(_shown(request, fields))
                if len(found) > limit:
                    break
        return {"requests": found[:limit], "has_more": len(found) > limit}

    async def show(self, name: str) -> dict[str, Any]:
        """A request that is open, or ended within `request_ttl_s`; NotFound without one."""
        return _shown(RequestId(name), await self._read(name))

    async def cancel(self, name: str, why: Failure = CANCELLED) -> dict[str, Any]:
        """End a request: its client hears why, its job is withdrawn or its node told to stop.

        The hub that holds it does all that, as soon as it reads the last word that is written here into the reply.

        Raises:
            NotFound: nobody knows it.
            Conflict: it is over.
        """
        held = self._dispatcher.find(RequestId(name))
        if held is not None:
            held.end(AttemptFailed(why))
            return _cancelling(name)
        fields = await self._read(name)
        over = Conflict(f"The request {name} is over.", code="request_is_over")
        if fields.get("status") not in OPEN:
            raise over
        # One that was taken over from a dead hub has its reply under that one's name.
        reply = fields.get("reply") or self._keys.reply(HubId(fields.get("hub", "")), RequestId(name))
        write = ReplyWrite(
            reply=reply,
            doorbell=self._keys.doorbell_of(reply),
            request=RequestId(name),
            id=LAST_WORD,
            entry=ReplyEntry(error=why),
        )
        with asking_broker("cancel", self._retry_after_s):
            (written,) = await self._replies.write([write])
            if written is Written.GONE and fields.get("status") == RequestStatus.QUEUED:  # it waits for its turn there
                await self._last_words.leave(write, UNREAD_MS)
                written = Written.YES
        if written not in (Written.YES, Written.FENCED):  # fenced: this was said before
            raise over
        return _cancelling(name)

    async def _read(self, name: str) -> Mapping[str, str]:
        found: Mapping[RequestId, Mapping[str, str]] = {}
        if is_request_id(name):
            with asking_broker("request", self._retry_after_s):
                found = await self._book.read([RequestId(name)])
        if name not in found:
            raise NotFound(f"There is no request {name!r}, or it ended too long ago.", code="request_not_found")
        return found[RequestId(name)]


def _cancelling(name: str) -> dict[str, Any]:
    log.info("request_cancelled", request=name)
    return {"id": name, "status": "cancelling"}


def _shown(request: RequestId, fields: Mapping[str, str]) -> dict[str, Any]:
    texts = {name: fields.get(name) or None for name in _TEXTS}
    return {"id": request, **texts, **{name: number_of(fields.get(name)) for name in _NUMBERS}}
