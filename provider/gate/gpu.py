"""Watches the GPUs in the background and moves the gate: no request ever waits for a reading.

A thread reads them and looks up the engine's processes; the event loop judges. A driver that hangs holds that thread
and nothing else: readings grow old, and old ones count as unknown.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from common.reasons import Reason
from provider.engines.watch import EngineWatch
from provider.gate.attribution import chosen_gpus, foreign_pct, missing_gpus
from provider.gate.gate import Gate
from provider.gate.policy import Load, LoadPolicy, resolve_unknown
from provider.gate.processes import own_pids
from provider.gate.readings import GpuProbe, GpuReading, GpuSnapshot
from provider.settings import GateSettings, UnknownPolicy
from provider.slots import Slots

log = structlog.get_logger()

AFTERGLOW_S = 1.5
"""So long after our last request NVML's figures may still be of it: its sample period is up to 1 s."""
STALE_S = 5.0
"""A reading older than this, and than three intervals, says nothing about now."""
WITHOUT_GPU_S = 2.0
"""Between two looks on a machine that has no GPU to read."""
PROCESSES_S = 5.0
"""How long the list of the engine's processes is good for, unless somebody unknown turns up on the GPU."""


@dataclass(frozen=True, slots=True)
class _Reading:
    snapshot: GpuSnapshot
    own: frozenset[int] | None
    at_s: float


class GpuWatch:
    """Keeps the newest reading, and the gate's reasons `gpu-busy` and `gpu-unknown` true.

    `on_owner` is called when others have used the GPU for so long that running requests are to make way.
    """

    def __init__(
        self,
        probe: GpuProbe,
        settings: GateSettings,
        *,
        gate: Gate,
        slots: Slots,
        engine: EngineWatch,
        on_owner: Callable[[], None],
    ) -> None:
        self._probe = probe
        self._settings = settings
        self._gate = gate
        self._slots = slots
        self._engine = engine
        self._on_owner = on_owner
        self._policy = LoadPolicy(settings)
        self._stale_s = max(STALE_S, 3 * settings.sample_interval_s)
        self._reading = _Reading(GpuSnapshot(error="not read yet"), None, float("-inf"))
        self._news = asyncio.Event()
        self._missing: tuple[int | str, ...] = ()
        self._has_gpu = False
        """Whether this machine ever showed one: a driver that fails later does not take it away."""
        # The reading thread's own:
        self._own: frozenset[int] | None = None
        self._own_at_s = float("-inf")
        self._judged: set[int] = set()
        """Who was on the GPU when the engine's processes were last looked up."""
        gate.set(Reason.GPU_UNKNOWN, holds=True)  # until the first readings have been judged

    @property
    def snapshot(self) -> GpuSnapshot:
        """The newest reading; what is too old says so in its `error` and tells no figures."""
        if self._is_fresh or self._reading.at_s == float("-inf"):
            return self._reading.snapshot
        return GpuSnapshot(error="the driver does not answer")

    @property
    def gpus(self) -> tuple[GpuReading, ...]:
        """The GPUs that the engine uses."""
        return chosen_gpus(self.snapshot, self._settings.gpus)

    @property
    def utilization_pct(self) -> int | None:
        """Of the busiest of them, by whomever; None if it cannot be told."""
        return max((gpu.utilization_pct for gpu in self.gpus if gpu.utilization_pct is not None), default=None)

    @property
    def is_working(self) -> bool:
        """Whether what the GPU does now may be our own work."""
        return self._slots.worked_within(AFTERGLOW_S)

    async def run(self) -> None:
        """Judge each reading as it comes, until cancelled."""
        end = threading.Event()
        loop = asyncio.get_running_loop()
        # A daemon, since a call into a hung driver never returns and must not hold up the end of the process.
        threading.Thread(target=self._read, args=(loop, end), name="gpu-readings", daemon=True).start()
        try:
            while True:
                try:
                    async with asyncio.timeout(self._stale_s):
                        await self._news.wait()
                except TimeoutError:
                    pass  # judge its age
                self._news.clear()
                self._judge()
        finally:
            end.set()

    def _read(self, loop: asyncio.AbstractEventLoop, end: threading.Event) -> None:
        """Take readings until told to end; runs in its own thread."""
        while not end.is_set():
            try:
                reading = self._read_once()
            except Exception:  # whatever a driver makes pynvml and psutil raise: the last good reading grows old
                log.exception("gpu_reading_failed")
                end.wait(WITHOUT_GPU_S)
                continue
            with suppress(RuntimeError):  # the loop is closed, and the end near
                loop.call_soon_threadsafe(self._take, reading)
            end.wait(self._settings.sample_interval_s if reading.snapshot.gpus else WITHOUT_GPU_S)
        self._probe.close()

    def _read_once(self) -> _Reading:
        snapshot = self._probe.sample()
        now = time.monotonic()
        seen = {one.pid for gpu in snapshot.gpus for one in gpu.processes or ()}
        if seen and (now - self._own_at_s > PROCESSES_S or not seen <= self._judged):
            self._own = own_pids(self._engine.status.url, self._settings.own_processes)
            self._own_at_s, self._judged = now, seen
        return _Reading(snapshot, self._own, now)

    def _take(self, reading: _Reading) -> None:
        before, self._reading = self._reading.snapshot, reading
        self._has_gpu |= bool(reading.snapshot.gpus)
        if before.error != reading.snapshot.error:
            log.info("gpu_readings", gpus=[gpu.name for gpu in reading.snapshot.gpus], error=reading.snapshot.error)
        missing = missing_gpus(reading.snapshot, self._settings.gpus) if reading.snapshot.gpus else ()
        if missing != self._missing:
            self._missing = missing
            log.warning("gpus_missing", missing=missing, hint="gate.gpus names GPUs that this machine does not have")
        self._news.set()

    @property
    def _is_fresh(self) -> bool:
        return time.monotonic() - self._reading.at_s < self._stale_s

    def _judge(self) -> None:
        reading, is_working = self._reading, self.is_working
        foreign = None
        if self._is_fresh:
            foreign = foreign_pct(reading.snapshot, self._settings.gpus, reading.own, is_working=is_working)
        now = time.monotonic()
        load = self._policy.update(now, foreign, is_working=is_working)
        unknown = resolve_unknown(self._settings.unknown, has_gpu=self._has_gpu)
        is_undecided = load is Load.UNKNOWN and foreign is not None
        self._gate.set(Reason.GPU_BUSY, holds=load is Load.BUSY)
        self._gate.set(
            Reason.GPU_UNKNOWN, holds=is_undecided or (load is Load.UNKNOWN and unknown is UnknownPolicy.NEVER)
        )
        self._slots.others = self._engine.others if load is Load.UNKNOWN and unknown is UnknownPolicy.SLOTS_ONLY else 0
        busy_since = self._policy.busy_since_s
        owner_works = busy_since is not None and now - busy_since >= self._settings.yield_after_s
        if owner_works and self._settings.yield_to_owner and self._slots.taken:
            self._on_owner()
