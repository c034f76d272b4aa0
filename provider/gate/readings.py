"""What is known of this machine's GPUs at one moment."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that used a GPU in the last moments."""

    pid: int
    utilization_pct: int


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU. What it doesn't tell (MIG, WDDM, old drivers) is None."""

    index: int
    name: str
    uuid: str
    utilization_pct: int | None = None
    """Percent of the last sample period (1/6 to 1 s) in which any kernel ran, as NVML counts it."""
    memory_used_mib: int | None = None
    memory_total_mib: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    processes: tuple[GpuProcess, ...] | None = None
    """Who used it in the last second and a half; empty: nobody did; None: it cannot tell."""


@dataclass(frozen=True, slots=True)
class GpuSnapshot:
    """All GPUs of the machine. Without any `error` says why (no driver, no GPU, …)."""

    gpus: tuple[GpuReading, ...] = ()
    driver_version: str = ""
    cuda_version: str = ""
    """The newest CUDA that the driver runs, as `12.8`."""
    error: str = ""


class GpuProbe(Protocol):
    """Where readings come from. It is used by one thread at a time; a call may take tens of milliseconds."""

    def sample(self) -> GpuSnapshot:
        """Read all GPUs now. Trouble is no exception but an `error`, and mends itself at a later call."""
        ...

    def close(self) -> None:
        """Let go of the driver."""
        ...
