"""What works for the grid, once it is known where that is: everything of a provider that speaks to the broker."""

import asyncio
from collections.abc import Callable

import structlog

from common.broker.clock import BrokerClock
from common.reasons import Reason
from common.records.registry import Registry
from common.streams.changes import Changes
from common.streams.control import ControlStreams
from common.streams.jobs import JobLanes
from common.streams.replies import ReplyStreams
from common.tasks import Crew
from provider.jobs.attempt import Attempts
from provider.jobs.consumer import Consumer
from provider.jobs.deliveries import Deliveries
from provider.jobs.following import follow_replies
from provider.jobs.former import FormerJobs
from provider.jobs.own_lanes import OwnLanes
from provider.jobs.runner import Runner
from provider.machine import Machine
from provider.membership.joining import Footing
from provider.presence.control import Control
from provider.presence.entry import NodeEntry
from provider.presence.own_record import OwnRecord
from provider.presence.presence import Presence
from provider.replies.reopening import ReopenWindow
from provider.replies.writer import ReplyWriter
from provider.standing import Standing
from provider.telemetry.outcomes import Outcomes
from provider.telemetry.trail import Trails

log = structlog.get_logger()


class Worker:
    """Presence, control, claim loop and writer around one runner, all with one broker.

    `on_registered` is called once, when the node first stands in the registry.
    """

    def __init__(
        self,
        footing: Footing,
        machine: Machine,
        standing: Standing,
        instance: str,
        *,
        trails: Trails,
        on_registered: Callable[[], None],
    ) -> None:
        settings, broker, access = footing.settings, footing.broker, footing.access
        if not access.signing:
            log.warning("jobs_unsigned", hint="set GHUB_SIGNING_KEY on hubs and providers to refuse forged jobs")
        self._node = node = standing.node
        self._grace_s = settings.broker_grace_s
        self._clock = BrokerClock(broker)
        self._replies = ReplyStreams(broker)
        window = ReopenWindow(broker.reconnections)
        self._writer = ReplyWriter(
            self._replies, window, flush_gap_ms=settings.flush_gap_ms, broker_grace_s=self._grace_s
        )
        job_lanes = JobLanes(broker)
        deliveries = Deliveries(job_lanes, broker.keys, access)
        attempts = Attempts(node, settings, self._replies, machine)
        self._runner = Runner(machine, deliveries, self._writer, attempts, self._clock, trails)
        lanes = OwnLanes(node, job_lanes, access)
        former = FormerJobs(lanes, self._replies, deliveries, self._runner, window)
        self._consumer = Consumer(lanes, machine, self._runner, former)
        entry = NodeEntry(node, Registry(broker), Changes(broker), settings.lease_ms)
        record = OwnRecord(instance, machine, standing, self._runner, lanes)
        self._presence = Presence(settings, self._clock, entry, record, access, standing, on_registered)
        self._control_streams = ControlStreams(broker)
        self._control = Control(node, self._control_streams, machine.gate, self._runner)
        self._orders_after: bytes | None = None

    @property
    def outcomes(self) -> Outcomes:
        """How many jobs ended how."""
        return self._runner.outcomes

    async def enter(self, stop: asyncio.Event) -> bool:
        """Wait for the name, and see where this node's orders stand; False if told to stop before.

        Raises:
            NameTaken: another provider has this name.
            BrokerError: the broker does not answer, or not to us.
        """
        await self._clock.sync()
        if not await self._presence.take_name(stop):
            return False
        self._orders_after = await self._control_streams.newest(self._node)
        return True

    def start(self, crew: Crew) -> None:
        """Begin to work, after `enter`."""
        crew.start("writer", self._writer.run())
        crew.start("control", self._control.run(self._orders_after or b"0-0"))
        crew.start("presence", self._presence.run())
        crew.start("replies", follow_replies(self._replies, self._runner))
        crew.start("consumer", self._consumer.run())

    def release_all(self, reason: Reason) -> int:
        """Give every running job back, now; how many."""
        return self._runner.release_all(reason)

    async def hand_back(self) -> None:
        """After the consumer has ended: give back what was delivered to its last, cut-off read."""
        await self._consumer.hand_back()

    async def drain(self, limit_s: float) -> None:
        """Wait for the running jobs, then give back those that are not done."""
        await self._runner.drain(limit_s, self._grace_s)

    async def leave(self) -> None:
        """After presence has ended: take this node out of the registry."""
        await self._presence.leave()
