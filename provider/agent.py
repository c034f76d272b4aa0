"""The provider process: everything long-lived is made here and handed over."""

import asyncio
import os
import signal

import structlog

from common import __version__
from common.broker import Broker, connect
from common.clock import BrokerClock
from common.errors import BrokerUnavailable
from common.process import run_process
from common.registry import Registry
from common.serving import FORCED_END_S, HttpServer, listen
from common.signing import SigningKeys
from common.streams.control import ControlStreams
from common.streams.jobs import JobLanes
from common.streams.replies import ReplyStreams
from common.tasks import Crew, backoff_s, wait_or_stop
from common.types import NodeId
from provider.api.app import make_app
from provider.consumer import Consumer
from provider.control import Control
from provider.deliveries import Deliveries
from provider.direct import DirectCalls
from provider.engines.watch import EngineWatch
from provider.gate.gate import Gate, Reason
from provider.gate.gpu import GpuWatch
from provider.gate.nvml import NvmlProbe
from provider.gate.room import ModelRoom
from provider.gate.rounds import make_rounds
from provider.gate.schedule import Schedule
from provider.hub_client import HubClient
from provider.metrics import ProviderMetrics, registry_of
from provider.notify import ServiceNotifier
from provider.presence import Presence
from provider.reporter import Reporter
from provider.runner import Runner
from provider.settings import ProviderSettings
from provider.slots import Slots
from provider.standing import Standing
from provider.writer import ReplyWriter

log = structlog.get_logger()


class Agent:
    """A provider: gate, engine watch, presence, claim loop and writer around one runner, and its own HTTP beside it."""

    def __init__(self, settings: ProviderSettings, broker: Broker, hub: HubClient, notifier: ServiceNotifier) -> None:
        node = NodeId(settings.name)
        self._node = node
        self._settings = settings
        self._notifier = notifier
        signing = SigningKeys.parse(settings.signing_key)
        if not signing:
            log.warning("jobs_unsigned", hint="set GHUB_SIGNING_KEY on hubs and providers to refuse forged jobs")
        lanes, replies = JobLanes(broker), ReplyStreams(broker)
        self._clock = BrokerClock(broker)
        self._gate = Gate()
        self._gate.set(Reason.ENGINE_DOWN, holds=True)  # until it is seen
        self._engine = EngineWatch(
            settings.engine, settings.slots, self._engine_changed, running=lambda: self._slots.taken
        )
        self._slots = Slots(lambda: self._engine.slots)
        self._gpu = GpuWatch(
            NvmlProbe(),
            settings.gate,
            gate=self._gate,
            slots=self._slots,
            engine=self._engine,
            on_owner=self._make_way,
        )
        self._room = ModelRoom(settings.gate, self._gpu, self._engine, self._gate)
        self._schedule = Schedule.parse(settings.schedule.windows, settings.schedule.timezone)
        standing = Standing(node, settings, self._gate, self._slots, self._engine, self._gpu)
        self._writer = ReplyWriter(replies, flush_gap_ms=settings.flush_gap_ms, broker_grace_s=settings.broker_grace_s)
        deliveries = Deliveries(lanes, broker.keys, signing)
        self._runner = Runner(
            node=node,
            settings=settings,
            keys=broker.keys,
            clock=self._clock,
            deliveries=deliveries,
            replies=replies,
            writer=self._writer,
            engine=self._engine,
            slots=self._slots,
            on_full=self._room.refuse,
        )
        self._presence = Presence(
            node=node,
            settings=settings,
            clock=self._clock,
            registry=Registry(broker),
            lanes=lanes,
            gate=self._gate,
            slots=self._slots,
            runner=self._runner,
            engine=self._engine,
            standing=standing,
            on_registered=self._registered,
        )
        self._control_streams = ControlStreams(broker)
        self._control = Control(node, self._control_streams, self._gate, self._runner)
        self._consumer = Consumer(
            node=node,
            lanes=lanes,
            replies=replies,
            deliveries=deliveries,
            gate=self._gate,
            slots=self._slots,
            runner=self._runner,
            engine=self._engine,
            room=self._room,
        )
        self._direct = DirectCalls(
            node,
            settings.server,
            standing=standing,
            slots=self._slots,
            engine=self._engine,
            room=self._room,
            hub=hub,
        )
        self._reporter = Reporter(settings.report, standing, hub)
        metrics = ProviderMetrics(
            standing.health,
            jobs=self._runner.outcomes.items,
            direct_calls=self._direct.outcomes.items,
            reports=self._reporter.outcomes.items,
        )
        self._http = HttpServer(make_app(settings, self._gate, standing, self._direct, registry_of(metrics)))
        self._crew = Crew()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until told to stop; then drain in order.

        What needs no broker begins first: the machine can be asked how it stands, and serves direct calls, without one.

        Raises:
            NameTaken: another provider has this name.
            SettingsError: the address of its own HTTP cannot be bound.
            RuntimeError: one of the root tasks died.
        """
        server = self._settings.server
        listener = listen(server.host, server.port, send_timeout_s=server.send_timeout_s)
        host, port = listener.getsockname()[:2]
        try:
            self._crew.start("http", self._http.serve(sockets=[listener]))
            self._crew.start("engine", self._engine.run())
            self._crew.start("gpu", self._gpu.run())
            self._crew.start("rounds", make_rounds(self._gate, self._schedule, self._room))
            self._crew.start("reporter", self._reporter.run())
            self._crew.start("watchdog", self._keep_alive())
            log.info("http_listening", host=host, port=port)
            orders_after = await self._crew.beside(self._enter(stop), stop)
            if orders_after is not None:
                self._crew.start("writer", self._writer.run())
                self._crew.start("control", self._control.run(orders_after))
                self._crew.start("presence", self._presence.run())
                self._crew.start("replies", self._runner.follow_replies())
                self._crew.start("consumer", self._consumer.run())
                await self._crew.until(stop)
            await self._drain(is_in_grid=orders_after is not None)
        finally:
            await self._crew.stop()
            await self._engine.aclose()
            listener.close()

    def look_again(self) -> None:
        """Look at the engine now: its models may have changed."""
        log.info("looking_again", node=self._node)
        self._engine.look()

    async def _keep_alive(self) -> None:
        """Feed the service manager's watchdog for as long as this event loop turns."""
        interval_s = self._notifier.watchdog_interval_s
        while interval_s is not None:
            self._notifier.alive()
            await asyncio.sleep(interval_s)
        await asyncio.Event().wait()

    async def _enter(self, stop: asyncio.Event) -> bytes | None:
        """Wait for the broker and for the name; where this node's orders stand, None if told to stop before."""
        for pause in backoff_s(0.2, 5):
            try:
                await self._clock.sync()
                if not await self._presence.take_name(stop):
                    return None
                return await self._control_streams.newest(self._node)
            except BrokerUnavailable as exc:
                self._notifier.status(f"waiting for the broker: {exc}")
                log.warning("broker_unavailable", doing="start", error=str(exc), retry_in_s=round(pause, 2))
            if await wait_or_stop(stop, pause):
                return None
        return None

    async def _drain(self, *, is_in_grid: bool) -> None:
        """Take no more, let what runs finish within the limit, give back the rest, leave."""
        limit_s = self._settings.drain_timeout_s
        log.info("draining", running=self._slots.taken, limit_s=limit_s)
        self._notifier.stopping()
        self._gate.set(Reason.DRAINING, holds=True)
        await self._crew.stop("consumer")
        if is_in_grid:
            await self._consumer.hand_back()
        await asyncio.gather(self._runner.drain(limit_s), self._direct.drain(limit_s))
        self._http.should_exit = True
        await self._crew.wait("http", FORCED_END_S + 2)
        await self._crew.stop("presence")
        if is_in_grid:
            await self._presence.leave()
        log.info("provider_stopped", node=self._node)

    def _registered(self) -> None:
        self._notifier.ready(f"in the grid as {self._node}")
        log.info("provider_started", node=self._node, version=__version__, engine=self._settings.engine.url)

    def _engine_changed(self, is_up: bool) -> None:  # noqa: FBT001 - the one fact of a callback
        self._gate.set(Reason.ENGINE_DOWN, holds=not is_up)
        self._gate.changed.set()  # its models may have changed too

    def _make_way(self) -> None:
        """The owner of this machine is at work: give back everything, now."""
        jobs, calls = self._runner.release_all(Reason.GPU_BUSY), self._direct.end_all()
        if jobs or calls:
            log.info("making_way", jobs=jobs, direct_calls=calls)


async def serve(settings: ProviderSettings) -> None:
    """Run a provider until SIGTERM or SIGINT; SIGHUP makes it look at its engine again."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stop.set)
    broker = connect(settings.redis_url, prefix=settings.prefix, client_name=f"ghub-provider-{settings.name}")
    try:
        async with HubClient(settings) as hub:
            agent = Agent(settings, broker, hub, ServiceNotifier(os.environ))
            loop.add_signal_handler(signal.SIGHUP, agent.look_again)
            await agent.run(stop)
    finally:
        await broker.aclose()


def run(settings: ProviderSettings) -> int:
    """Run a provider to its end; the process' exit status."""
    return run_process("provider", settings, serve(settings))
