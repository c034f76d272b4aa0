"""Takes jobs: only while the gate is open, never more than there are free slots."""

import asyncio

import structlog

from common.errors import BrokerError, LaneMissing
from common.tasks import backoff_s, wait_or_stop
from provider.jobs.former import FormerJobs
from provider.jobs.own_lanes import OwnLanes
from provider.jobs.runner import Runner
from provider.machine import Machine
from provider.replies.reopening import REOPEN_S

log = structlog.get_logger()

ADOPT_INTERVAL_S = 30.0
LOOK_AT_ROOM_S = 0.2
"""Room for a model may come without a word."""
LOOK_AT_SLOTS_S = 1.0
"""Slots may also come free without a word: when the engine says that others use fewer of them."""


class Consumer:
    """The claim loop (design, rule 2): a script takes what waits, most urgent lane first; then one blocking read."""

    def __init__(self, lanes: OwnLanes, machine: Machine, runner: Runner, former: FormerJobs) -> None:
        self._lanes = lanes
        self._machine = machine
        self._runner = runner
        self._former = former

    async def run(self) -> None:
        """Take jobs until cancelled. After any trouble with the broker, look for jobs it counts as ours."""
        loop = asyncio.get_running_loop()
        waits = backoff_s(0.1, 5)
        adopt_at = 0.0
        while True:
            try:
                if loop.time() >= adopt_at and self._lanes.may_hold_former:
                    await self._lanes.look_what_is_denied()
                    is_done = await self._former.adopt()
                    adopt_at = loop.time() + (ADOPT_INTERVAL_S if is_done else REOPEN_S)
                await self._take()
                waits = backoff_s(0.1, 5)
            except BrokerError as exc:
                pause = next(waits)
                adopt_at = 0.0
                self._lanes.learn_from(exc)
                log.warning(
                    "lanes_missing" if isinstance(exc, LaneMissing) else "broker_unavailable",
                    doing="claim",
                    error=str(exc),
                    retry_in_s=round(pause, 2),
                )
                await self._lanes.access.mend(exc, pause)

    async def hand_back(self) -> None:
        """After `run` has ended: give back what was delivered to its last, cut-off read."""
        try:
            await self._former.adopt()
        except BrokerError as exc:
            log.warning("broker_unavailable", doing="hand_back", error=str(exc))

    async def _take(self) -> None:
        """One round: what waits now, or the first that comes."""
        machine, access = self._machine, self._lanes.access
        await machine.gate.wait_open()
        machine.slots.changed.clear()
        free = machine.slots.free
        if free == 0:
            await wait_or_stop(machine.slots.changed, LOOK_AT_SLOTS_S)
            return
        access.changed.clear()
        allowed = self._lanes.models
        models = [model for model in machine.engine.models if model in allowed and machine.room.fits(model)]
        if not models:
            await wait_or_stop(access.changed, LOOK_AT_ROOM_S)
            return
        for delivery in await self._lanes.next(models, free):
            await self._runner.start(delivery)
