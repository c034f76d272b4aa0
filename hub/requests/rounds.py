"""What a hub looks at now and then over all its open requests: places in the queue, clients that are behind, keys."""

import asyncio
from collections.abc import Callable, Container

import structlog

from common.errors import BrokerError
from common.streams.jobs import Ticket
from common.streams.queues import Queues
from common.types import ModelId, RequestId
from hub.errors import ClientTooSlow, UnknownClient
from hub.requests.backstage import Backstage
from hub.requests.dispatcher import Dispatcher
from hub.requests.pace import Pace
from hub.requests.request import OpenRequest

log = structlog.get_logger()

PLACES_S = 2.0
BEHIND_S = 1.0
KEYS_S = 0.5


class Rounds:
    """Looks after the open requests of a hub. `good_keys` tells the digests of all client keys that are good now."""

    def __init__(
        self, dispatcher: Dispatcher, queues: Queues, backstage: Backstage, good_keys: Callable[[], Container[str]]
    ) -> None:
        self._dispatcher = dispatcher
        self._queues = queues
        self._good_keys = good_keys
        self._stage = backstage
        self._pace = Pace()
        self._seen: dict[RequestId, tuple[float, int]] = {}
        """When a waiting request was last looked at, and how many were ahead of it."""

    async def follow_places(self) -> None:
        """Keep the places in the queue of waiting requests up to date until cancelled."""
        while True:
            await asyncio.sleep(PLACES_S)
            try:
                await self.look_at_places()
            except BrokerError as exc:
                log.warning("broker_unavailable", doing="places", error=str(exc))

    async def follow_slow_clients(self) -> None:
        """End requests whose client has left too much of its answer in the broker, until cancelled."""
        while True:
            await asyncio.sleep(BEHIND_S)
            try:
                await self.look_at_slow_clients()
            except BrokerError as exc:
                log.warning("broker_unavailable", doing="slow_clients", error=str(exc))

    async def follow_keys(self) -> None:
        """End requests whose client key was revoked, until cancelled: they wait and run as long as answers may."""
        while True:
            await asyncio.sleep(KEYS_S)
            good = self._good_keys()
            for request in self._dispatcher.open_requests:
                key = request.place.client_key
                if key is not None and key.digest not in good:
                    error = UnknownClient("This API key has been revoked.")
                    if request.place.ticket is None:
                        request.end(error)
                    else:
                        self._dispatcher.cut_short(request, error)

    async def look_at_places(self) -> None:
        """Ask once where those stand that wait; BrokerError if there is no answer."""
        waiting = [
            (request, ticket)
            for request in self._dispatcher.open_requests
            if request.is_waiting and request.age_s > 1 and (ticket := request.place.ticket) is not None
        ]
        lanes = [(request.id, ticket.lane) for request, ticket in waiting]
        places = await self._queues.places(lanes) if lanes else []
        found: list[tuple[OpenRequest, Ticket, int]] = []
        for (request, ticket), ahead in zip(waiting, places, strict=True):
            if ahead is not None:
                found.append((request, ticket, ahead))
            elif (await self._stage.lanes.fetch(ticket)).fields is None:  # the index is but a hint
                request.miss(ticket)
        self._note_pace(found)
        steps_s = {model: self._pace.step_s(model) for model in {ticket.lane.model for _, ticket, _ in found}}
        for request, ticket, ahead in found:
            if request.place.ticket == ticket:  # else it was tried again meanwhile
                step_s = steps_s[ticket.lane.model]
                request.place.move(ahead, None if step_s is None else (ahead + 1) * step_s)

    async def look_at_slow_clients(self) -> None:
        """Ask once how much the broker holds for clients that are behind; BrokerError if there is no answer."""
        behind = [request for request in self._dispatcher.open_requests if request.inbox.was_skipped]
        if not behind:
            return
        limit = self._stage.settings.max_reply_bytes
        held = await self._stage.requests.held_bytes(
            [(request.inbox.reply, request.inbox.entry_bytes) for request in behind]
        )
        for request, held_bytes in zip(behind, held, strict=True):
            if held_bytes > limit:
                log.warning("client_too_slow", request=request.id, held_bytes=held_bytes)
                message = f"the client left more than {limit} bytes of its answer unread"
                self._dispatcher.cut_short(request, ClientTooSlow(message))

    def _note_pace(self, found: list[tuple[OpenRequest, Ticket, int]]) -> None:
        """See how far each model's queue moved since the last look: as far as whoever moved most."""
        now = asyncio.get_running_loop().time()
        moved: dict[ModelId, tuple[int, float]] = {}
        for request, ticket, ahead in found:
            if (seen := self._seen.get(request.id)) is not None:
                step = (max(0, seen[1] - ahead), now - seen[0])
                moved[ticket.lane.model] = max(step, moved.get(ticket.lane.model, step))
        for model, (places, over_s) in moved.items():
            self._pace.moved(model, places, over_s)
        self._seen = {request.id: (now, ahead) for request, _, ahead in found}
