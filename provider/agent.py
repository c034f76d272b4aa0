"""The provider process: everything long-lived is made here and handed over."""

import asyncio
import os
import signal
from collections.abc import Iterable
from uuid import uuid4

import structlog

from common import __version__
from common.broker.broker import Broker
from common.errors import BrokerDenied, BrokerUnavailable
from common.process import run_process
from common.reasons import Reason
from common.registration import RegistrationRequest
from common.serving.server import FORCED_END_S, HttpServer, bind
from common.signing import SigningKeys
from common.tasks import Crew, backoff_s, wait_or_stop
from common.telemetry.port import NO_TRACING, Tracing
from common.telemetry.switch import open_tracing
from common.types import NodeId
from provider.api.app import make_app
from provider.direct import DirectCalls
from provider.engines.watch import EngineWatch
from provider.errors import GridMoved
from provider.gate.gate import Gate
from provider.gate.gpu import GpuWatch
from provider.gate.nvml import NvmlProbe
from provider.gate.room import ModelRoom
from provider.gate.rounds import make_rounds
from provider.machine import Machine
from provider.membership.hub_client import HubClient
from provider.membership.joining import Footing, application, joined_grid, named_grid
from provider.membership.membership import Membership
from provider.notify import ServiceNotifier
from provider.presence.reporter import Reporter
from provider.schedule import Schedule
from provider.settings import ProviderSettings
from provider.slots import Slots
from provider.standing import Standing
from provider.telemetry.metrics import ProviderMetrics, registry_of
from provider.telemetry.trail import Trails
from provider.worker import Worker

log = structlog.get_logger()

ENGINE_SEEN_WITHIN_S = 3.0
"""What the engine gets to be seen before this node registers: then its models are known at once."""


class Agent:
    """A provider: gate, engine watch, its own HTTP and, once there is a grid to work for, the worker."""

    def __init__(
        self, settings: ProviderSettings, hub: HubClient, notifier: ServiceNotifier, tracing: Tracing = NO_TRACING
    ) -> None:
        self._node = node = NodeId(settings.name)
        self._instance = uuid4().hex[:12]
        self._settings = settings
        self._notifier = notifier
        self._signing = SigningKeys.parse(settings.signing_key)
        self._gate = gate = Gate()
        gate.set(Reason.ENGINE_DOWN, holds=True)  # until it is seen
        self._engine_seen = asyncio.Event()
        self._engine = engine = EngineWatch(
            settings.engine, settings.slots, self._engine_changed, running=lambda: self._slots.taken
        )
        self._slots = slots = Slots(lambda: engine.slots)
        self._gpu = gpu = GpuWatch(
            NvmlProbe(), settings.gate, gate=gate, slots=slots, engine=engine, on_owner=self._make_way
        )
        self._machine = Machine(gate, slots, engine, gpu, ModelRoom(settings.gate, gpu, engine, gate))
        self._schedule = Schedule.parse(settings.schedule.windows, settings.schedule.timezone)
        self._standing = Standing(node, settings, self._machine)
        self._direct = DirectCalls(settings.server, self._machine, self._standing, hub)
        self._reporter = Reporter(settings.report, self._standing, hub)
        metrics = ProviderMetrics(
            self._standing.health,
            jobs=self._job_outcomes,
            direct_calls=self._direct.outcomes.items,
            reports=self._reporter.outcomes.items,
        )
        self._trails = Trails(tracing, node, engine, tells_content=settings.traces_content)
        self._http = HttpServer(
            make_app(settings, gate, self._standing, self._direct, registry_of(metrics), self._trails)
        )
        self._has_moved = asyncio.Event()
        self._membership = Membership(
            hub,
            self._application,
            own_keys=self._signing,
            on_renewed=self._renewed,
            on_revoked=self._revoked,
            on_moved=self._has_moved.set,
        )
        self._crew = Crew()
        self._broker: Broker | None = None
        self._worker: Worker | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until told to stop; then drain in order.

        What needs no broker begins first: the machine can be asked how it stands, and serves direct calls, without one.

        Raises:
            RegistrationRefused: the hub does not let this provider in.
            NameTaken: another provider has this name.
            GridMoved: its hub now names another grid than the one it works for.
            SettingsError: the address of its own HTTP cannot be bound, or its broker is not one that was asked for.
            RuntimeError: one of the root tasks died.
        """
        server = self._settings.server
        listener = bind(server.host, server.port, send_timeout_s=server.send_timeout_s)
        host, port = listener.getsockname()[:2]
        try:
            self._crew.start("http", self._http.serve_on(listener))
            self._crew.start("engine", self._engine.run())
            self._crew.start("gpu", self._gpu.run())
            self._crew.start("rounds", make_rounds(self._gate, self._schedule, self._machine.room))
            self._crew.start("reporter", self._reporter.run())
            self._crew.start("watchdog", self._keep_alive())
            log.info("http_listening", host=host, port=port)
            worker = await self._crew.beside(self._enter(stop), stop)
            if worker is not None:
                self._worker = worker
                worker.start(self._crew)
                self._crew.start("grid", self._end_if_moved(stop))
                await self._crew.until(stop)
            await self._drain(worker)
        finally:
            await self._crew.stop()
            await self._engine.aclose()
            if self._broker is not None:
                await self._broker.aclose()
            listener.close()
        if self._has_moved.is_set():
            raise GridMoved("the hub names another broker, prefix or heartbeat than before: to be started anew")

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

    async def _end_if_moved(self, stop: asyncio.Event) -> None:
        await self._has_moved.wait()
        stop.set()
        await asyncio.Event().wait()

    async def _enter(self, stop: asyncio.Event) -> Worker | None:
        """Find the grid, wait for its broker and for the name; None if told to stop before."""
        footing = await self._footing(stop)
        if footing is None:
            return None
        self._broker = footing.broker
        worker = Worker(
            footing,
            self._machine,
            self._standing,
            self._instance,
            trails=self._trails,
            on_registered=self._registered,
        )
        for pause in backoff_s(0.2, 5):
            try:
                return worker if await worker.enter(stop) else None
            except (BrokerUnavailable, BrokerDenied) as exc:
                if isinstance(exc, BrokerDenied) and not footing.access.is_member:
                    raise
                self._notifier.status(f"waiting for the broker: {exc}")
                log.warning("broker_unavailable", doing="start", error=str(exc), retry_in_s=round(pause, 2))
                await footing.access.mend(exc, pause)
        return None

    async def _footing(self, stop: asyncio.Event) -> Footing | None:
        if not self._settings.registers:
            return named_grid(self._settings, self._engine, self._signing)
        await wait_or_stop(self._engine_seen, ENGINE_SEEN_WITHIN_S)
        registration = await self._membership.join(stop, self._notifier.status)
        if registration is None:
            return None
        self._crew.start("membership", self._membership.run())
        return joined_grid(self._settings, self._membership, registration)

    async def _drain(self, worker: Worker | None) -> None:
        """Take no more, let what runs finish within the limit, give back the rest, leave."""
        limit_s = self._settings.drain_timeout_s
        log.info("draining", running=self._slots.taken, limit_s=limit_s)
        self._notifier.stopping()
        self._gate.set(Reason.DRAINING, holds=True)
        await self._crew.stop("consumer")
        if worker is not None:
            await worker.hand_back()
            await asyncio.gather(worker.drain(limit_s), self._direct.drain(limit_s))
        else:
            await self._direct.drain(limit_s)
        self._http.should_exit = True
        await self._crew.wait("http", FORCED_END_S + 2)
        await self._crew.stop("presence")
        if worker is not None:
            await worker.leave()
        log.info("provider_stopped", node=self._node)

    def _registered(self) -> None:
        self._notifier.ready(f"in the grid as {self._node}")
        log.info("provider_started", node=self._node, version=__version__, engine=self._settings.engine.url)

    def _application(self) -> RegistrationRequest:
        return application(self._settings, self._instance, self._machine, self._standing)

    def _renewed(self) -> None:
        self._gate.set(Reason.REVOKED, holds=False)
        self._gate.changed.set()  # its models may have changed too

    def _revoked(self) -> None:
        self._gate.set(Reason.REVOKED, holds=True)
        self._release_all(Reason.REVOKED)

    def _engine_changed(self) -> None:
        self._engine_seen.set()
        self._gate.set(Reason.ENGINE_DOWN, holds=not self._engine.is_up)
        self._gate.changed.set()  # its models may have changed too

    def _make_way(self) -> None:
        """The owner of this machine is at work: give back everything, now."""
        jobs, calls = self._release_all(Reason.GPU_BUSY), self._direct.end_all()
        if jobs or calls:
            log.info("making_way", jobs=jobs, direct_calls=calls)

    def _release_all(self, reason: Reason) -> int:
        return 0 if self._worker is None else self._worker.release_all(reason)

    def _job_outcomes(self) -> Iterable[tuple[str, int]]:
        return () if self._worker is None else self._worker.outcomes.items()


async def serve(settings: ProviderSettings) -> None:
    """Run a provider until SIGTERM or SIGINT; SIGHUP makes it look at its engine again."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stop.set)
    async with HubClient(settings) as hub:
        tracing = open_tracing(settings, "ghub-provider", settings.name)
        agent = Agent(settings, hub, ServiceNotifier(os.environ), tracing)
        loop.add_signal_handler(signal.SIGHUP, agent.look_again)
        try:
            await agent.run(stop)
        finally:
            await tracing.aclose()


def run(settings: ProviderSettings) -> int:
    """Run a provider to its end; the process' exit status."""
    return run_process("provider", settings, serve(settings))
