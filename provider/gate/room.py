"""Which models a job may be taken for: those in memory, and those that would fit into what is free of it."""

import time

from common.reasons import Reason
from common.types import ModelId
from provider.engines.watch import EngineWatch
from provider.gate.gate import Gate
from provider.gate.gpu import GpuWatch
from provider.gate.memory import fits
from provider.settings import GateSettings

FULL_FOR_S = 30.0
"""How long a model is left alone that the engine could not load for want of memory."""


class ModelRoom:
    """Looks at free GPU memory before a model is loaded for a job (see pitfalls of idle GPUs: idle is not empty)."""

    def __init__(self, settings: GateSettings, gpu: GpuWatch, engine: EngineWatch, gate: Gate) -> None:
        self._settings = settings
        self._gpu = gpu
        self._engine = engine
        self._gate = gate
        self._full_until_s: dict[ModelId, float] = {}

    def fits(self, model: ModelId) -> bool:
        """Whether a job for this model may be taken now."""
        if time.monotonic() < self._full_until_s.get(model, 0):
            return False
        status = self._engine.status
        info = next((one for one in status.models if one.id == model), None)
        if info is None or info.is_loaded or not self._settings.check_memory:
            return True
        return fits(
            info,
            status,
            self._gpu.snapshot,
            self._settings.gpus,
            factor=self._settings.memory_factor,
            is_working=self._gpu.is_working,
        )

    def refuse(self, model: ModelId) -> None:
        """The engine had no memory for this model: leave it alone for a while."""
        self._full_until_s[model] = time.monotonic() + FULL_FOR_S

    def judge(self) -> None:
        """Close the gate while there is room for none of the engine's models."""
        models = self._engine.models
        self._gate.set(Reason.GPU_MEMORY, holds=bool(models) and not any(self.fits(model) for model in models))
