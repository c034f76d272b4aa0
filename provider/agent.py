"""The provider process: everything long-lived is made here and handed over."""

import asyncio
import signal

import structlog

from common import __version__
from common.broker import Broker, connect
from common.clock import BrokerClock
from common.errors import BrokerUnavailable
from common.process import run_process
from common.registry import Registry
from common.signing import SigningKeys
from common.streams.control import ControlStreams
from common.streams.jobs import JobLanes
from common.streams.replies import ReplyStreams
from common.tasks import Crew, backoff_s, wait_or_stop
from common.types import NodeId
from provider.consumer import Consumer
from provider.control import Control
from provider.engines.watch import EngineWatch
from provider.gate.gate import Gate, Reason
from provider.presence import Presence
from provider.runner import Runner
from provider.settings import ProviderSettings
from provider.writer import ReplyWriter

log = structlog.get_logger()


class Agent:
    """A provider: presence, engine watch, control, claim loop and writer around one runner."""

    def __init__(self, settings: ProviderSettings, broker: Broker) -> None:
        node = NodeId(settings.name)
        self._node = node
        self._settings = settings
        signing = SigningKeys.parse(settings.signing_key)
        if not signing:
            log.warning("jobs_unsigned", hint="set GHUB_SIGNING_KEY on hubs and providers to refuse forged jobs")
        lanes, replies = JobLanes(broker), ReplyStreams(broker)
        self._clock = BrokerClock(broker)
        self._gate = Gate()
        self._gate.set(Reason.ENGINE_DOWN, holds=True)  # until it is seen
        self._engine = EngineWatch(settings.engine, settings.slots, self._engine_changed)
        self._writer = ReplyWriter(replies, flush_gap_ms=settings.flush_gap_ms, broker_grace_s=settings.broker_grace_s)
        self._runner = Runner(
            node=node,
            settings=settings,
            keys=broker.keys,
            signing=signing,
            clock=self._clock,
            lanes=lanes,
            replies=replies,
            writer=self._writer,
            engine=self._engine,
        )
        self._presence = Presence(
            node=node,
            settings=settings,
            clock=self._clock,
            registry=Registry(broker),
            lanes=lanes,
            gate=self._gate,
            runner=self._runner,
            engine=self._engine,
        )
        self._control_streams = ControlStreams(broker)
        self._control = Control(node, self._control_streams, self._gate, self._runner)
        self._consumer = Consumer(node, lanes, replies, self._gate, self._runner, self._engine)
        self._crew = Crew()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until told to stop; then drain in order.

        Raises:
            NameTaken: another provider has this name.
            RuntimeError: one of the root tasks died.
        """
        try:
            if not await self._enter(stop):
                return
            self._crew.start("writer", self._writer.run())
            self._crew.start("engine", self._engine.run())
            self._crew.start("control", self._control.run(await self._control_streams.newest(self._node)))
            self._crew.start("presence", self._presence.run())
            self._crew.start("replies", self._runner.follow_replies())
            self._crew.start("consumer", self._consumer.run())
            log.info("provider_started", node=self._node, version=__version__, engine=self._settings.engine.url)
            await self._crew.until(stop)
            await self._drain()
        finally:
            await self._crew.stop()
            await self._engine.aclose()

    async def _enter(self, stop: asyncio.Event) -> bool:
        """Wait for the broker and for the name; False if told to stop before."""
        for pause in backoff_s(0.2, 5):
            try:
                await self._clock.sync()
                has_name = await self._presence.take_name(stop)
            except BrokerUnavailable as exc:
                log.warning("broker_unavailable", doing="start", error=str(exc), retry_in_s=round(pause, 2))
            else:
                return has_name
            if await wait_or_stop(stop, pause):
                return False
        return False

    async def _drain(self) -> None:
        """Take no more, let what runs finish within the limit, give back the rest, leave."""
        log.info("draining", running=len(self._runner.requests), limit_s=self._settings.drain_timeout_s)
        self._gate.set(Reason.DRAINING, holds=True)
        await self._crew.stop("consumer")
        await self._consumer.hand_back()
        await self._runner.drain(self._settings.drain_timeout_s)
        await self._crew.stop("presence")
        await self._presence.leave()
        log.info("provider_stopped", node=self._node)

    def _engine_changed(self, is_up: bool) -> None:  # noqa: FBT001 - the one fact of a callback
        self._gate.set(Reason.ENGINE_DOWN, holds=not is_up)
        self._gate.changed.set()  # its models may have changed too


async def serve(settings: ProviderSettings) -> None:
    """Run a provider until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stop.set)
    broker = connect(settings.redis_url, prefix=settings.prefix, client_name=f"ghub-provider-{settings.name}")
    try:
        await Agent(settings, broker).run(stop)
    finally:
        await broker.aclose()


def run(settings: ProviderSettings) -> int:
    """Run a provider to its end; the process' exit status."""
    return run_process("provider", settings, serve(settings))
