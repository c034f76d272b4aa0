"""Takes jobs: only while the gate is open, never more than there are free slots."""

import asyncio
from collections.abc import Sequence

import structlog

from common.errors import BrokerError
from common.streams.jobs import Delivery, JobLanes, LaneName, Ticket, lanes_of
from common.streams.replies import ReplyStreams
from common.tasks import backoff_s, wait_or_stop
from common.types import NodeId
from common.wire import RELEASED_BY_RESTART
from provider.deliveries import Deliveries
from provider.engines.watch import EngineWatch
from provider.gate.gate import Gate, Reason
from provider.gate.room import ModelRoom
from provider.runner import Runner
from provider.slots import Slots

log = structlog.get_logger()

NO_ROOM = "no-free-slot"
ADOPT_INTERVAL_S = 30.0
LOOK_AT_SLOTS_S = 1.0
"""Slots may also come free without a word: when the engine says that others use fewer of them."""


class Consumer:
    """The claim loop (design, rule 2): a script takes what waits, most urgent lane first; then one blocking read."""

    def __init__(
        self,
        *,
        node: NodeId,
        lanes: JobLanes,
        replies: ReplyStreams,
        deliveries: Deliveries,
        gate: Gate,
        slots: Slots,
        runner: Runner,
        engine: EngineWatch,
        room: ModelRoom,
    ) -> None:
        self._node = node
        self._lanes = lanes
        self._replies = replies
        self._deliveries = deliveries
        self._gate = gate
        self._slots = slots
        self._runner = runner
        self._engine = engine
        self._room = room

    async def run(self) -> None:
        """Take jobs until cancelled. After any trouble with the broker, look for jobs it counts as ours."""
        loop = asyncio.get_running_loop()
        waits = backoff_s(0.1, 5)
        adopt_at = 0.0
        while True:
            try:
                if loop.time() >= adopt_at and self._engine.models:
                    await self._adopt(lanes_of(self._engine.models))
                    adopt_at = loop.time() + ADOPT_INTERVAL_S
                await self._take()
                waits = backoff_s(0.1, 5)
            except BrokerError as exc:
                pause = next(waits)
                adopt_at = 0.0
                log.warning("broker_unavailable", doing="claim", error=str(exc), retry_in_s=round(pause, 2))
                await asyncio.sleep(pause)

    async def hand_back(self) -> None:
        """After `run` has ended: give back what was delivered to its last, cut-off read."""
        try:
            await self._adopt(lanes_of(self._engine.models))
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
        lanes = lanes_of([model for model in self._engine.models if self._room.fits(model)])
        if not lanes:
            await asyncio.sleep(0.2)
            return
        deliveries = await self._lanes.claim(self._node, lanes, free)
        if not deliveries:
            deliveries = await self._lanes.wait(self._node, lanes)
        for delivery in deliveries:
            await self._start(delivery)

    async def _start(self, delivery: Delivery) -> None:
        """Run it, or give it back if the gate closed or the slots filled while it was on its way."""
        if not self._gate.is_open:
            await self._runner.give_back(delivery, ",".join(self._gate.reasons))
        elif self._slots.free == 0:
            await self._runner.give_back(delivery, NO_ROOM)
        elif not self._room.fits(delivery.ticket.lane.model):
            await self._runner.give_back(delivery, Reason.GPU_MEMORY)
        else:
            await self._runner.accept(delivery)

    async def _adopt(self, lanes: Sequence[LaneName]) -> None:
        """Deal with jobs that are ours by name but do not run here.

        Such are the jobs of a former process of this name, those whose delivery was lost with a connection, and
        those given back to a hub that is gone.
        """
        for ticket in await self._lanes.pending_of(self._node, lanes):
            if not self._runner.has(ticket):
                await self._adopt_one(ticket)

    async def _adopt_one(self, ticket: Ticket) -> None:
        delivery = await self._lanes.fetch(ticket)
        job = await self._deliveries.verified(delivery)
        if job is None:
            return
        last = await self._replies.last_id(job.reply)
        if self._runner.has(ticket):
            return
        if last is None or last.attempt > job.attempt:  # over, or run by someone else
            await self._deliveries.settle(ticket, job.id)
        elif last.attempt < job.attempt:  # delivered, but never begun
            await self._start(delivery)
        else:
            log.info("job_found_begun", request=job.id, attempt=job.attempt)
            await self._runner.give_back(delivery, RELEASED_BY_RESTART, after=last)
