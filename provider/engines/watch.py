"""Keeps an eye on the engine: what it is, whether it is up, what it serves."""

import asyncio
from collections.abc import Callable

import structlog

from common.tasks import wait_or_stop
from common.types import ModelId
from provider.engines.base import Engine, EngineStatus
from provider.engines.detect import open_engine
from provider.errors import EngineDown
from provider.settings import EngineSettings

log = structlog.get_logger()

DEFAULT_SLOTS = 4


class EngineWatch:
    """Probes the engine and tells `on_change(is_up)` whenever its state or its models changed."""

    def __init__(self, settings: EngineSettings, slots: int | None, on_change: Callable[[bool], None]) -> None:
        self._settings = settings
        self._slots = slots
        self._on_change = on_change
        self._engine: Engine | None = None
        self._status: EngineStatus | None = None
        self._suspected = asyncio.Event()

    @property
    def current(self) -> Engine:
        """The engine.

        Raises:
            EngineDown: none was found yet.
        """
        if self._engine is None:
            raise EngineDown(f"nothing answers at {self._settings.url}")
        return self._engine

    @property
    def status(self) -> EngineStatus:
        """What it last said of itself; kind `unknown` before it said anything."""
        return self._status or EngineStatus("unknown", self._settings.url or "")

    @property
    def slots(self) -> int:
        """Jobs at once: as set, as the engine says, or 4."""
        return self._slots or self.status.slots or DEFAULT_SLOTS

    @property
    def models(self) -> list[ModelId]:
        """Models to take jobs for, those in memory first."""
        models = sorted(self.status.models, key=lambda model: (not model.is_loaded, model.id))
        return [model.id for model in models]

    def suspect(self) -> None:
        """A job could not reach it: take no more, and look at once."""
        self._on_change(False)
        self._suspected.set()

    async def run(self) -> None:
        """Probe until cancelled."""
        was_up: bool | None = None
        while True:
            self._suspected.clear()
            before = self._status
            is_up = await self._probe()
            if is_up != was_up:
                log.info("engine_up" if is_up else "engine_down", url=self._settings.url, kind=self.status.kind)
            if is_up != was_up or self._status != before or self._suspected.is_set():
                self._on_change(is_up)
            was_up = is_up
            await wait_or_stop(self._suspected, self._settings.probe_interval_s)
            if self._suspected.is_set():
                was_up = False
                await asyncio.sleep(min(0.2, self._settings.probe_interval_s))

    async def aclose(self) -> None:
        """Close its connections."""
        if self._engine is not None:
            await self._engine.aclose()

    async def _probe(self) -> bool:
        try:
            if self._engine is None:
                self._engine = await open_engine(self._settings)
            self._status = await self._engine.status()
        except EngineDown as exc:
            log.debug("engine_probe_failed", error=str(exc))
            return False
        return True
