"""A provider's parts without its surroundings: the engine and the GPUs say what a test tells them to."""

from collections.abc import Iterable
from typing import Any

from common.reasons import Reason
from common.types import ModelId, NodeId
from provider.engines.watch import EngineWatch
from provider.errors import EngineDown, EngineError
from provider.gate.gate import Gate
from provider.gate.gpu import GpuWatch
from provider.gate.readings import GpuProcess, GpuReading, GpuSnapshot
from provider.gate.room import ModelRoom
from provider.machine import Machine
from provider.protocol.engine import Engine, EngineStatus, ModelInfo
from provider.settings import EngineSettings, GateSettings, ProviderSettings
from provider.slots import Slots
from provider.standing import Standing

NO_GPU = GpuSnapshot(error="no driver")


class ToldEngine(EngineWatch):
    """An engine that is seen as `now` says; who asks it something asks `asked`."""

    def __init__(self) -> None:
        super().__init__(EngineSettings(url="http://127.0.0.1:11434"), None, lambda: None)
        self.now = EngineStatus("ollama", "http://127.0.0.1:11434", slots=2)
        self.asked: Engine | None = None
        self.taken_by_others = 0
        self.suspicions = 0

    @property
    def others(self) -> int:
        return self.taken_by_others

    @property
    def current(self) -> Engine:
        assert self.asked is not None
        return self.asked

    def learn_from(self, error: EngineError) -> None:
        self.suspicions += isinstance(error, EngineDown)

    @property
    def status(self) -> EngineStatus:
        return self.now


class ToldProbe:
    """Readings as a test wants them: each is the one that stands in `snapshot`, or what `trouble` raises."""

    def __init__(self, snapshot: GpuSnapshot = NO_GPU) -> None:
        self.snapshot = snapshot
        self.trouble: Exception | None = None
        self.samples = 0
        self.is_closed = False

    def sample(self) -> GpuSnapshot:
        self.samples += 1
        if self.trouble is not None:
            raise self.trouble
        return self.snapshot

    def close(self) -> None:
        self.is_closed = True


class Parts:
    """Gate, slots, engine and GPUs of one provider, and how it says that it stands."""

    def __init__(self, gpus: GpuSnapshot = NO_GPU, gate: GateSettings | None = None, **settings: Any) -> None:
        self.gate = Gate()
        self.engine = ToldEngine()
        self.slots = Slots(lambda: self.engine.slots)
        self.probe = ToldProbe(gpus)
        self.made_way = 0
        self.gpu = GpuWatch(
            self.probe,
            gate or GateSettings(sample_interval_s=0.05, idle_after_s=0),
            gate=self.gate,
            slots=self.slots,
            engine=self.engine,
            on_owner=self._make_way,
        )
        self.room = ModelRoom(GateSettings(), self.gpu, self.engine, self.gate)
        self.settings = ProviderSettings(name="desk", **settings)
        self.machine = Machine(self.gate, self.slots, self.engine, self.gpu, self.room)
        self.standing = Standing(NodeId("desk"), self.settings, self.machine)

    def _make_way(self) -> None:
        self.made_way += 1

    def open(self) -> "Parts":
        """With the gate open, as after the first readings."""
        for reason in Reason:
            self.gate.set(reason, holds=False)
        return self


def gpu_at(pct: int | None, processes: Iterable[tuple[int, int]] | None = (), **fields: Any) -> GpuSnapshot:
    """One GPU with this load, and who (pid, percent) makes it."""
    used_by = None if processes is None else tuple(GpuProcess(*one) for one in processes)
    return GpuSnapshot((GpuReading(0, "Test", "GPU-1", utilization_pct=pct, processes=used_by, **fields),))


def model(name: str, *, is_loaded: bool = False, **fields: Any) -> ModelInfo:
    return ModelInfo(ModelId(name), is_loaded, **fields)
