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
from common.telemetry.port import Tracing
from common.types import NodeId
from provider.engines.watch import EngineWatch
from provider.gate.gate import Gate
from provider.gate.room import ModelRoom
from provider.jobs.consumer import Consumer
from provider.jobs.deliveries import Deliveries
from provider.jobs.runner import Runner
from provider.membership.joining import Footing
from provider.presence.control import Control
from provider.presence.presence import Presence
from provider.replies.reopening import ReopenWindow
from provider.replies.writer import ReplyWriter
from provider.slots import Slots
from provider.standing import Standing
from provider.telemetry.outcomes import Outcomes

log = structlog.get_logger()


class Worker:
    """Presence, control, claim loop and writer around one runner, all with one broker.

    `on_registered` is called once, when the node first stands in the registry.
    """

    def __init__(
        self,
        footing: Footing,
        *,
        node: NodeId,
        instance: str,
        gate: Gate,
        slots: Slots,
        engine: EngineWatch,
        room: ModelRoom,
        standing: Standing,
        on_registered: Callable[[], None],
        tracing: Tracing,
    ) -> None:
        settings, broker, access = footing.settings, footing.broker, footing.access
        lanes, replies = JobLanes(broker), ReplyStreams(broker)
        if not access.signing:
            log.warning("jobs_unsigned", hint="set GHUB_SIGNING_KEY on hubs and providers to refuse forged jobs")
        self._node = node
        self._clock = BrokerClock(broker)
        window = ReopenWindow(broker.reconnections)
        self._writer = ReplyWriter(
            replies, window, flush_gap_ms=settings.flush_gap_ms, broker_grace_s=settings.broker_grace_s
        )
        deliveries = Deliveries(lanes, broker.keys, access)
        self._runner = Runner(
            node=node,
            settings=settings,
            keys=broker.keys,
            clock=self._clock,
            deliveries=deliveries,
            replies=replies,
            writer=self._writer,
            engine=engine,
            slots=slots,
            on_full=room.refuse,
            tracing=tracing,
        )
        self._consumer = Consumer(
            node=node,
            lanes=lanes,
            access=access,
            replies=replies,
            deliveries=deliveries,
            gate=gate,
            slots=slots,
            runner=self._runner,
            engine=engine,
            room=room,
            window=window,
        )
        self._presence = Presence(
            node=node,
            instance=instance,
            settings=settings,
            clock=self._clock,
            registry=Registry(broker),
            changes=Changes(broker),
            access=access,
            gate=gate,
            slots=slots,
            runner=self._runner,
            engine=engine,
            standing=standing,
            reads_near_lane=lambda: self._consumer.near is not None,
            on_registered=on_registered,
        )
        self._control_streams = ControlStreams(broker)
        self._control = Control(node, self._control_streams, gate, self._runner)
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
        crew.start("replies", self._runner.follow_replies())
        crew.start("consumer", self._consumer.run())

    def release_all(self, reason: Reason) -> int:
        """Give every running job back, now; how many."""
        return self._runner.release_all(reason)

    async def hand_back(self) -> None:
        """After the consumer has ended: give back what was delivered to its last, cut-off read."""
        await self._consumer.hand_back()

    async def drain(self, limit_s: float) -> None:
        """Wait for the running jobs, then give back those that are not done."""
        await self._runner.drain(limit_s)

    async def leave(self) -> None:
        """After presence has ended: take this node out of the registry."""
        await self._presence.leave()
