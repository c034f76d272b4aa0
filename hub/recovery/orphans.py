"""Requests whose hub died: another hub takes each over, goes on with it or ends it.

Of several hubs that take one, the broker lets one have it. What a hub has taken stands in its own list of open
requests until it is dealt with, so should that hub die too, the next one finds it there.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from common.errors import BrokerError, BrokerUnavailable
from common.keys import Keys
from common.records.leftovers import Leftovers
from common.records.request_book import RequestBook
from common.types import HubId, NodeId, RequestId, RequestStatus
from hub.errors import BrokerAway, HubLost
from hub.recovery.complaints import Complaints
from hub.recovery.endings import Ending
from hub.recovery.facts import OVER, Facts, is_resumable, reply_of, ticket_of
from hub.requests.backstage import Backstage

log = structlog.get_logger()

BATCH = 50
"""So many requests are taken and dealt with at once."""
LOST = HubLost("the hub that looked after this request is gone")
ANSWER_LOST = HubLost("the broker has lost the end of this answer, which had been told")
HEARD_MS = 60_000
"""How long the last word in the reply of a request that can be resumed stays for who comes back, at most."""


class Adopt(Protocol):
    """Goes on with a request of a dead hub that can be resumed."""

    async def __call__(self, request: RequestId, facts: Facts, /) -> bool:
        """Look after it from now on; False if that cannot be. BrokerError: try again later."""


class Orphans:
    """The requests of dead hubs, and those of them that this hub has taken and not dealt with yet."""

    def __init__(
        self,
        stage: Backstage,
        keys: Keys,
        leftovers: Leftovers,
        book: RequestBook,
        adopt: Adopt,
        complaints: Complaints,
    ) -> None:
        self._stage = stage
        self._keys = keys
        self._leftovers = leftovers
        self._book = book
        self._adopt = adopt
        self._complaints = complaints
        self._heard_ms = min(HEARD_MS, int(stage.settings.answer_keep_s * 1000))
        self._taken: dict[RequestId, HubId] = {}

    @property
    def taken(self) -> Sequence[RequestId]:
        """What this hub has taken and not dealt with yet."""
        return [*self._taken]

    async def take_from(self, hub: HubId) -> None:
        """Take over what a dead hub has left, and deal with it.

        Raises:
            BrokerError: what was taken and not dealt with is kept for `deal`.
        """
        while found := await self._leftovers.open_of(hub, BATCH):
            mine = await self._leftovers.take(found, hub, self._stage.hub)
            if mine:
                log.info("requests_taken_over", hub=hub, requests=len(mine))
            self.accept(mine, hub)
            await self.deal()
            if not mine:  # others are at it, and faster
                return
        await self._leftovers.forget(hub, self._stage.clock.now_ms())

    def accept(self, requests: Sequence[RequestId], hub: HubId) -> None:
        """Deal with these from the next `deal` on; they stand in this hub's own list."""
        self._taken |= dict.fromkeys(requests, hub)

    async def deal(self) -> None:
        """Go on with what was taken, or end it. BrokerUnavailable: what is left is for the next time."""
        names = self.taken
        for start in range(0, len(names), BATCH):
            read = await asyncio.gather(*map(self._read, names[start : start + BATCH]))
            waiting = {one: facts for one, facts in read if facts and facts.get("status") == RequestStatus.QUEUED}
            others = {one: facts for one, facts in read if facts is not None and one not in waiting}
            # Those that wait first: else a node takes them in the moment that the running ones free its slots.
            for some in (waiting, others):
                results = await asyncio.gather(*map(self._deal_with, some, some.values()), return_exceptions=True)
                for failed in results:
                    if failed is not None:
                        raise failed

    async def _read(self, request: RequestId) -> tuple[RequestId, Facts | None]:
        """What the broker knows of a request; None where that cannot be read."""
        try:
            return request, (await self._book.read([request])).get(request, {})
        except BrokerUnavailable:
            raise
        except BrokerError as exc:  # of this request alone: a key of it is not what it should be
            self._complaints.tell(f"request {request}", exc)
            return request, None

    async def _deal_with(self, request: RequestId, facts: Facts) -> None:
        try:
            is_over = facts.get("status") in OVER
            ending = self._stage.endings.find(request)
            if ending is not None:
                await self._end_again(request, facts, ending)
            elif not is_resumable(facts):
                await self._call_off(request, facts, is_over=is_over)
            elif is_over:  # its answer stays for those who come back for it
                await self._stage.requests.update({}, {}, over=[request])
            elif not await self._adopted(request, facts):
                await self._call_off(request, facts, is_over=False)
        except BrokerUnavailable:
            raise
        except BrokerError as exc:  # likewise
            self._complaints.tell(f"request {request}", exc)
            return
        self._complaints.withdraw(f"request {request}")
        self._taken.pop(request, None)

    async def _end_again(self, request: RequestId, facts: Facts, ending: Ending) -> None:
        """It has ended here, but the broker has forgotten that. Who comes back for its answer hears that it is lost."""
        reply = reply_of(facts, request, self._taken[request], self._keys)
        is_kept = is_resumable(facts)
        if is_kept:  # unless a last word is there
            await self._stage.requests.say_last_word(reply, ANSWER_LOST.as_failure(), self._heard_ms)
        if (ticket := ending.ticket or ticket_of(facts)) is not None:
            await self._stage.lanes.settle(ticket, request)
        await self._stage.requests.call_off(request, None if is_kept else reply, None, self._node_of(request, facts))
        await self._stage.requests.update({request: ending.final}, {}, over=[request])
        log.info("request_ended_again", request=request, status=ending.final.get("status"))

    async def _adopted(self, request: RequestId, facts: Facts) -> bool:
        try:
            return await self._adopt(request, facts)
        except BrokerError:
            raise
        except BrokerAway as exc:
            raise BrokerUnavailable(str(exc)) from exc
        except Exception:  # one request that cannot be read must not end this hub, and then the next one
            log.exception("adoption_failed", request=request)
            return False

    async def _call_off(self, request: RequestId, facts: Facts, *, is_over: bool) -> None:
        """Free whoever works on it, and take it out of the broker; those who may come back for it hear why."""
        reply = reply_of(facts, request, self._taken[request], self._keys)
        is_kept = is_resumable(facts)
        if is_kept:
            await self._stage.requests.say_last_word(reply, LOST.as_failure(), self._heard_ms)
        node = self._node_of(request, facts)
        await self._stage.requests.call_off(request, None if is_kept else reply, ticket_of(facts), node)
        changes: dict[RequestId, dict[str, str | int]] = {}
        if facts and not is_over:
            ended_at = self._stage.clock.now_ms()
            changes[request] = {"status": RequestStatus.FAILED.value, "error": LOST.code, "ended_at": ended_at}
            log.info("request_lost_its_hub", request=request, model=facts.get("model"), node=facts.get("node"))
        await self._stage.requests.update(changes, {}, over=[request])

    def _node_of(self, request: RequestId, facts: Facts) -> NodeId | None:
        """Who works on it, as far as is known here; the lane may know of another one."""
        for node in self._stage.view.nodes.values():
            if request in node.requests:
                return node.node
        told = NodeId(facts.get("node", ""))
        return told if told in self._stage.view.nodes else None
