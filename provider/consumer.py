"""Takes jobs: only while the gate is open, never more than there are free slots."""

import asyncio
from collections.abc import Sequence

import structlog

from common.broker.shapes import Fields
from common.errors import BrokerDenied, BrokerError, LaneMissing, WireError
from common.reasons import NO_FREE_SLOT, Reason
from common.streams.jobs import Delivery, JobLanes, LaneName, lanes_of
from common.streams.replies import ReplyStreams
from common.tasks import backoff_s, wait_or_stop
from common.types import ModelId, NodeId
from common.wire import RELEASED_BY_RESTART, EntryId, Job, ReplyEntry
from provider.access import Access
from provider.deliveries import Deliveries
from provider.engines.watch import EngineWatch
from provider.gate.gate import Gate
from provider.gate.room import ModelRoom
from provider.looking_back import is_over
from provider.reopening import REOPEN_S, ReopenWindow
from provider.runner import Runner
from provider.slots import Slots

log = structlog.get_logger()

NO_MODEL = "model-gone"
"""The release reason of a job whose model the engine has no more."""
ADOPT_INTERVAL_S = 30.0
LOOK_AT_ROOM_S = 0.2
"""Room for a model may come without a word."""
LOOK_AT_SLOTS_S = 1.0
"""Slots may also come free without a word: when the engine says that others use fewer of them."""

JUST_S = 0.05


class Consumer:
    """The claim loop (design, rule 2): a script takes what waits, most urgent lane first; then one blocking read."""

    def __init__(
        self,
        *,
        node: NodeId,
        lanes: JobLanes,
        access: Access,
        replies: ReplyStreams,
        deliveries: Deliveries,
        gate: Gate,
        slots: Slots,
        runner: Runner,
        engine: EngineWatch,
        room: ModelRoom,
        window: ReopenWindow,
    ) -> None:
        self._node = node
        self._lanes = lanes
        self._access = access
        self._replies = replies
        self._deliveries = deliveries
        self._gate = gate
        self._slots = slots
        self._runner = runner
        self._engine = engine
        self._room = room
        self._window = window
        self._denied: frozenset[ModelId] = frozenset()
        self._is_near_denied = False
        self._is_refused = False
        self._has_looked_back = False
        self._waited: tuple[Sequence[LaneName], float] = ([], 0.0)
        """For which lanes a wait ended with nothing, and when."""

    @property
    def near(self) -> LaneName | None:
        """The node's own lane, if it is read."""
        return None if self._is_near_denied else self._access.near

    async def run(self) -> None:
        """Take jobs until cancelled. After any trouble with the broker, look for jobs it counts as ours."""
        loop = asyncio.get_running_loop()
        waits = backoff_s(0.1, 5)
        adopt_at = 0.0
        while True:
            try:
                if loop.time() >= adopt_at and (self._access.models or not self._has_looked_back):
                    await self._look_what_is_denied()
                    is_done = await self._adopt()
                    adopt_at = loop.time() + (ADOPT_INTERVAL_S if is_done else REOPEN_S)
                await self._take()
                waits = backoff_s(0.1, 5)
            except BrokerError as exc:
                pause = next(waits)
                adopt_at = 0.0
                self._is_refused |= isinstance(exc, BrokerDenied)
                log.warning(
                    "lanes_missing" if isinstance(exc, LaneMissing) else "broker_unavailable",
                    doing="claim",
                    error=str(exc),
                    retry_in_s=round(pause, 2),
                )
                await self._access.mend(exc, pause)

    async def hand_back(self) -> None:
        """After `run` has ended: give back what was delivered to its last, cut-off read."""
        try:
            await self._adopt()
        except BrokerError as exc:
            log.warning("broker_unavailable", doing="hand_back", error=str(exc))

    async def _take(self) -> None:
        """One round: what waits now, or the first that comes."""
        await self._gate.wait_open()
        self._slots.changed.clear()
        free = self._slots.free
        if free == 0:
            await wait_or_stop(self._slots.changed, LOOK_AT_SLOTS_S)
            return
        self._access.changed.clear()
        lanes = self._in_order([model for model in self._models() if self._room.fits(model)])
        if not lanes:
            await wait_or_stop(self._access.changed, LOOK_AT_ROOM_S)
            return
        for delivery in await self._next(lanes, free):
            await self._start(delivery)

    async def _next(self, lanes: Sequence[LaneName], free: int) -> list[Delivery]:
        """What waits in these lanes, up to so many in the order of urgency, or the first that comes.

        Where there are slots for as many of each lane the order is of no matter, and one read does.
        """
        if free >= len(lanes):
            return await self._lanes.wait(self._node, lanes, count=free // len(lanes))
        if not self._has_just_waited(lanes):
            found = await self._lanes.claim(self._node, lanes, free)
            if found:
                return found
        found = await self._lanes.wait(self._node, lanes)
        self._waited = ([], 0.0) if found else (lanes, asyncio.get_running_loop().time())
        return found

    def _has_just_waited(self, lanes: Sequence[LaneName]) -> bool:
        """Whether a wait for these lanes ended a moment ago with nothing: nothing lies there then, but by chance.

        An idle node asks the broker one command for that, where a claim is one more for every lane.
        """
        waited_for, until = self._waited
        return waited_for == lanes and asyncio.get_running_loop().time() - until < JUST_S

    async def _start(self, delivery: Delivery) -> None:
        """Run it, or give it back if the gate closed or the slots filled while it was on its way."""
        if not self._gate.is_open:
            await self._runner.give_back(delivery, ",".join(self._gate.reasons))
        elif self._slots.free == 0:
            await self._runner.give_back(delivery, NO_FREE_SLOT)
        elif delivery.ticket.lane.model not in self._engine.models:
            await self._runner.give_back(delivery, NO_MODEL)
        elif not self._room.fits(delivery.ticket.lane.model):
            await self._runner.give_back(delivery, Reason.GPU_MEMORY)
        else:
            await self._runner.accept(delivery)

    def _in_order(self, models: Sequence[ModelId]) -> list[LaneName]:
        """The lanes of these models, most urgent first; the node's own goes before those that it takes from."""
        lanes, near = lanes_of(models), self.near
        if lanes and near is not None:
            lanes.insert(lanes.index(LaneName(near.lane, models[0])), near)
        return lanes

    def _models(self) -> list[ModelId]:
        """The engine's, those in memory first, as far as their lanes are there and may be read."""
        allowed = self._allowed()
        return [model for model in self._engine.models if model in allowed]

    def _allowed(self) -> set[ModelId]:
        return {*self._access.models} - self._denied

    async def _look_what_is_denied(self) -> None:
        """A claim is refused as a whole for one lane that may not be read: leave that model out, and serve the rest.

        So it is where the broker's operator makes the users, and has not heard of a new model yet.
        """
        near = [] if self._access.near is None else [self._access.near]
        asked = [*lanes_of(self._access.models), *near]
        denied = await self._lanes.denied(self._node, asked) if self._is_refused else set()
        self._is_near_denied = not denied.isdisjoint(near)
        found = frozenset(lane.model for lane in denied.difference(near))
        if found != self._denied:
            log.warning(
                "models_denied", models=sorted(found), hint="the broker does not let this node read their lanes"
            )
        self._denied = found
        self._is_refused = bool(denied)

    async def _adopt(self) -> bool:
        """Deal with jobs that are ours by name but do not run here; False if some were left for a later look.

        Such are the jobs of a former process of this name, those whose delivery was lost with a connection, and
        those given back to a hub that is gone.
        """
        is_done = True
        # Of every model that it may, not only those that the engine has now: it may have lost one since.
        async for delivery in self._lanes.delivered(self._node, await self._lanes_of_old()):
            if not self._runner.has(delivery.ticket):
                is_done &= await self._adopt_one(delivery)
        return is_done

    async def _lanes_of_old(self) -> list[LaneName]:
        """Where jobs of ours may be: those of models that the engine lost while no process of this name ran, once."""
        own = [*lanes_of(self._allowed()), *([] if self.near is None else [self.near])]
        if self._has_looked_back or self._access.is_member:  # a registered node may read no other lanes
            return own
        self._has_looked_back = True
        try:
            return [*own, *(await self._lanes.known() - {*own})]
        except BrokerDenied:
            return own

    async def _adopt_one(self, delivery: Delivery) -> bool:
        """Deal with one; False if its reply is missing and its hub may yet reopen it."""
        ticket = delivery.ticket
        job = await self._deliveries.verified(delivery)
        if job is None:
            return True
        (newest,) = await self._replies.newest([job.reply])
        if self._runner.has(ticket):
            return True
        if newest is None and self._window.is_open:
            return False
        if newest is None or newest[0].attempt > job.attempt:  # over, or run by someone else
            await self._deliveries.settle(ticket, job.id)
        elif newest[0].attempt < job.attempt:  # delivered, but never begun
            await self._start(delivery)
        else:
            await self._end_for_former(delivery, job, *newest)
        return True

    async def _end_for_former(self, delivery: Delivery, job: Job, last: EntryId, fields: Fields) -> None:
        """Do what a former process of this name has left undone of an attempt that it had begun."""
        log.info("job_found_begun", request=job.id, attempt=job.attempt)
        try:
            entry = ReplyEntry.from_fields(fields)
        except WireError:
            entry = ReplyEntry()
        if is_over([(last, entry)]):  # all was said, but the job is still in its lane
            await self._deliveries.settle(delivery.ticket, job.id)
        else:
            await self._runner.give_back(delivery, entry.release or RELEASED_BY_RESTART, after=last)
