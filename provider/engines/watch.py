"""Keeps an eye on the engine: where it is, what it is, whether it is up, what it serves."""

import asyncio
from collections.abc import Callable

import structlog

from common.tasks import wait_or_stop
from common.types import ModelId
from provider.engines.detect import FoundEngine, connect_engine, find_engine
from provider.errors import DISCONNECTED, EngineDown, EngineError, EngineFailed, EngineLate, ModelGone
from provider.protocol.engine import Engine, EngineStatus
from provider.settings import EngineSettings

log = structlog.get_logger()

DEFAULT_SLOTS = 4
SOON_S = 1.0
"""Between two looks at an engine that is down, or was late."""
AFTER_REFUSAL_S = 0.2
"""From a refused job to the look that it causes: an engine that restarts has closed its port by then."""
LATE_PROBES = 2
"""So many late answers in a row count as down: an engine that works hard may well be late once."""


class EngineWatch:
    """Probes on a schedule, and at once when a job could not reach the engine.

    `on_change` is called when `is_up` or what the engine says of itself may be different; `running` says how many
    requests run on it through this provider.
    """

    def __init__(
        self,
        settings: EngineSettings,
        slots: int | None,
        on_change: Callable[[], None],
        running: Callable[[], int] = lambda: 0,
    ) -> None:
        self._settings = settings
        self._slots = slots
        self._on_change = on_change
        self._running = running
        self._others = 0
        self._found: FoundEngine | None = None
        self._engine: Engine | None = None
        self._status: EngineStatus | None = None
        self._answers: bool | None = None
        """At the last look; None: there was none."""
        self._trouble = ""
        self._late_probes = 0
        self._suspected_s: float | None = None
        """How long to wait before the look that a suspicion calls for; None: there is none."""
        self.is_up = False
        """Whether it may be given jobs: it answered, and nothing since then says that it may be gone."""
        self._wake = asyncio.Event()

    @property
    def current(self) -> Engine:
        """The engine.

        Raises:
            EngineDown: none was found yet.
        """
        if self._engine is None:
            raise EngineDown(f"nothing answers at {self._settings.url or 'the usual ports'}")
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
    def others(self) -> int:
        """How many of its slots were taken past this provider at the last look, as far as it tells."""
        return self._others

    @property
    def models(self) -> list[ModelId]:
        """Models to take jobs for, those in memory first."""
        models = sorted(self.status.models, key=lambda model: (not model.is_loaded, model.id))
        return [model.id for model in models]

    def learn_from(self, error: EngineError) -> None:
        """What a job's failure says of the engine: where it may be gone, take no more until it was looked at."""
        if isinstance(error, EngineDown):
            self._suspect(AFTER_REFUSAL_S)
        elif isinstance(error, ModelGone):
            self.look()
        elif isinstance(error, EngineFailed) and error.failure.code == DISCONNECTED:
            # It may have died, of this job or of one beside it: what it is given before that is known fails, too.
            self._suspect(0)

    def look(self) -> None:
        """Look at once: something may have changed."""
        self._wake.set()

    def _suspect(self, look_after_s: float) -> None:
        self._suspected_s = look_after_s
        self._tell()
        self._wake.set()

    def _forget_suspicion(self) -> bool:
        """Whether there was one; what comes from now on is a new one."""
        had_one, self._suspected_s = self._suspected_s is not None, None
        return had_one

    def _tell(self) -> None:
        self.is_up = self._answers is True and self._suspected_s is None
        self._on_change()

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            self._wake.clear()
            was_suspected = self._forget_suspicion()
            before, did_answer, trouble = self._status, self._answers, self._trouble
            self._answers = await self._probe(is_patient=did_answer is True and not was_suspected)
            if self._answers and not did_answer:
                log.info("engine_up", url=self.status.url, kind=self.status.kind, version=self.status.version)
            elif not self._answers and (did_answer is not False or trouble != self._trouble):
                log.warning("engine_down", url=self.status.url, kind=self.status.kind, error=self._trouble)
            if self._answers != did_answer or self._status != before or was_suspected:
                self._log_models(before)
                self._tell()
            pause_s = self._settings.probe_interval_s
            if not self._answers or self._late_probes:
                pause_s = min(pause_s, SOON_S)
            await wait_or_stop(self._wake, pause_s)
            if self._suspected_s is not None:
                await asyncio.sleep(min(self._suspected_s, self._settings.probe_interval_s))

    async def aclose(self) -> None:
        """Close its connections."""
        if self._engine is not None:
            await self._engine.aclose()

    async def _probe(self, *, is_patient: bool) -> bool:
        """Look once; whether it is up. `is_patient`: a single late answer is forgiven."""
        try:
            if not self._answers:
                await self._find()
            ours = self._running()
            self._status = await self.current.status()
            # Of the moment at which it was asked: measured against what runs later, our own ended requests would
            # count as others' until the next look.
            self._others = max(0, (self._status.in_use or 0) - max(ours, self._running()))
        except EngineLate as exc:
            self._late_probes += 1
            self._trouble = str(exc)
            log.debug("engine_probe_late", error=str(exc), in_a_row=self._late_probes)
            return is_patient and self._late_probes < LATE_PROBES
        except EngineDown as exc:
            self._late_probes = 0
            self._trouble = str(exc)
            return False
        self._late_probes = 0
        self._trouble = ""
        return True

    async def _find(self) -> None:
        """See what is there now; what was there before may have come back as another."""
        found = await find_engine(self._settings)
        if found != self._found:
            await self.aclose()
            self._engine = connect_engine(found, self._settings)
            self._found = found

    def _log_models(self, before: EngineStatus | None) -> None:
        now = self._status
        if now is None or now is before:
            return
        if before is None or {one.id for one in before.models} != {one.id for one in now.models}:
            log.info("models_changed", models=self.models, loaded=list(now.loaded))
        elif before.loaded != now.loaded:
            log.info("models_loaded", loaded=list(now.loaded))
