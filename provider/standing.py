"""How this provider stands, as it tells it: to the registry, in its reports, and to whoever asks on this machine.

What the engine says of itself is cut to what a report may hold: an odd name of a model must not end the provider.
"""

import asyncio
from typing import Any

from common import __version__
from common.reasons import NO_FREE_SLOT, Reason
from common.report import MAX_AMOUNT, MAX_MODELS, MAX_TEXT_CHARS, EngineReport, GpuReport, HealthReport, ModelReport
from common.types import NodeId, NodeState
from provider.machine import Machine
from provider.protocol.engine import ModelInfo
from provider.settings import ProviderSettings


class Standing:
    """Puts together what gate, slots, engine and GPUs say at this moment."""

    def __init__(self, node: NodeId, settings: ProviderSettings, machine: Machine) -> None:
        self.node = node
        self._settings = settings
        self._gate = machine.gate
        self._slots = machine.slots
        self._engine = machine.engine
        self._gpu = machine.gpu
        self.in_grid = False
        """Whether this node's entry stands in the broker, as far as is known; set by whoever writes it."""

    @property
    def changed(self) -> asyncio.Event:
        """Set when something of this may be different; cleared by who tells the grid of it."""
        return self._gate.changed

    @property
    def state(self) -> NodeState:
        """What the node does now."""
        if Reason.DRAINING in self._gate.reasons:
            return NodeState.DRAINING
        if not self._gate.is_open:
            return NodeState.PAUSED
        return NodeState.IDLE if self._slots.free else NodeState.BUSY

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why a request that came now would not be taken; empty if it would."""
        if self._gate.reasons:
            return self._gate.reasons
        return () if self._slots.free else (NO_FREE_SLOT,)

    @property
    def public_url(self) -> str:
        """Where others reach this provider, if they do."""
        return self._settings.tunnel.url or ""

    def engine(self) -> EngineReport:
        """The engine and what it can."""
        status = self._engine.status
        return EngineReport(
            kind=status.kind,
            version=_cut(status.version),
            url=_cut(status.url),
            capabilities=tuple(sorted(status.capabilities)),
        )

    def gpus(self) -> tuple[GpuReport, ...]:
        """Every GPU of this machine."""
        snapshot = self._gpu.snapshot
        return tuple(
            GpuReport(
                name=gpu.name,
                uuid=gpu.uuid,
                driver_version=snapshot.driver_version,
                cuda_version=snapshot.cuda_version,
                memory_used_mib=gpu.memory_used_mib,
                memory_total_mib=gpu.memory_total_mib,
                utilization_pct=gpu.utilization_pct,
                temperature_c=gpu.temperature_c,
                power_w=gpu.power_w,
            )
            for gpu in snapshot.gpus
        )

    def busy(self) -> dict[str, Any]:
        """The answer of `/busy`."""
        reasons = self.reasons
        return {"busy": bool(reasons), "reasons": reasons, "utilization_pct": self._gpu.utilization_pct}

    def health(self) -> HealthReport:
        """The answer of `/health`, and what is reported to the hub."""
        gpus = self.gpus()
        return HealthReport(
            node=self.node,
            version=__version__,
            state=self.state,
            reasons=self._gate.reasons,
            gpu_count=len(gpus),
            gpus=gpus,
            models=tuple(_model(model) for model in self._engine.status.models[:MAX_MODELS]),
            engine=self.engine(),
            public_url=self.public_url,
            slots=self._slots.total,
            running=self._slots.taken,
            in_grid=self.in_grid,
        )


def _model(model: ModelInfo) -> ModelReport:
    size_bytes = model.size_bytes if model.size_bytes is not None and 0 <= model.size_bytes <= MAX_AMOUNT else None
    return ModelReport(id=_cut(model.id), size_bytes=size_bytes, digest=_cut(model.digest), loaded=model.is_loaded)


def _cut(text: str) -> str:
    return text[:MAX_TEXT_CHARS]
