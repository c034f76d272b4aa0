"""What this machine has to give, in one hand: engine and GPUs, the slots on them, and the gate before it all."""

from dataclasses import dataclass

from common.reasons import NO_FREE_SLOT, Reason
from common.types import ModelId
from provider.engines.watch import EngineWatch
from provider.gate.gate import Gate
from provider.gate.gpu import GpuWatch
from provider.gate.room import ModelRoom
from provider.slots import Slots

NO_MODEL = "model-gone"
"""The release reason of a job whose model the engine has no more."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The parts of a provider that are the same whether or not there is a grid to work for."""

    gate: Gate
    slots: Slots
    engine: EngineWatch
    gpu: GpuWatch
    room: ModelRoom

    def refusal(self, model: ModelId) -> str | None:
        """Why a job for this model may not begin now, as its hub is told; None if it may."""
        if not self.gate.is_open:
            return ",".join(self.gate.reasons)
        if self.slots.free == 0:
            return NO_FREE_SLOT
        if model not in self.engine.models:
            return NO_MODEL
        return None if self.room.fits(model) else Reason.GPU_MEMORY
