"""A machine with GPUs that exist in a text file only, seen through the real pynvml and a stub of NVIDIA's library."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from tests.doubles.nvml.build import build_library

_SEARCH_PATH = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"


class NvmlCode(IntEnum):
    """What an NVML function may return instead of an answer (those that tests use)."""

    UNINITIALIZED = 1
    NOT_SUPPORTED = 3
    NO_PERMISSION = 4
    NOT_FOUND = 6
    DRIVER_NOT_LOADED = 9
    FUNCTION_NOT_FOUND = 13
    GPU_IS_LOST = 15
    RESET_REQUIRED = 16
    LIB_RM_VERSION_MISMATCH = 18
    UNKNOWN = 999


Errors = Mapping[str, int]
"""An `NvmlCode` by name of the C function, e.g. `nvmlDeviceGetPowerUsage`; `*` means all."""


@dataclass(frozen=True, slots=True)
class StubSample:
    """One measured period of a process, at a fixed time: readings made some time later don't see it."""

    pid: int
    utilization_pct: int
    age_s: float = 0.0
    """How long before `StubNvml.set` it was taken."""


@dataclass(frozen=True, slots=True)
class StubGpu:
    """One GPU of the stub."""

    name: str = "NVIDIA Stub 4090"
    uuid: str = ""
    """Empty: made from its index."""
    utilization_pct: int = 0
    memory_used_mib: int = 500
    memory_total_mib: int = 24_564
    temperature_c: int = 40
    power_w: float = 60.0
    is_mig: bool | None = None
    """None: it does not know MIG. On, it still tells what is set here, as some drivers do; `errors` make it refuse."""
    processes: Mapping[int, int] = field(default_factory=dict)
    """Who uses it at every reading: percent by pid."""
    samples: tuple[StubSample, ...] = ()
    """Samples with a time of their own, beside `processes`."""
    errors: Errors = field(default_factory=dict)


class StubNvml:
    """The stub for the processes of one test. It starts with one idle GPU.

    `folder` holds the text file; `library` is a folder from `build_library`, shared between tests to compile
    once (by default the library is built into `folder`).
    """

    def __init__(self, folder: Path, library: Path | None = None) -> None:
        self.library = library or build_library(folder)
        self._file = folder / "nvml.txt"
        self.set(StubGpu())

    @property
    def env(self) -> dict[str, str]:
        """What the environment of a process needs to see these GPUs and no real ones."""
        former = os.environ.get(_SEARCH_PATH)
        path = f"{self.library}{os.pathsep}{former}" if former else str(self.library)
        return {_SEARCH_PATH: path, "GHUB_STUB_NVML": str(self._file)}

    def set(
        self,
        *gpus: StubGpu,
        driver_version: str = "570.86.10",
        cuda_version: str = "12.8",
        errors: Errors | None = None,
        delay_ms: int = 0,
    ) -> None:
        """Change the machine as a whole; processes that run see it at their next call, each of which takes `delay_ms`.

        Without GPUs the machine has a driver only. `errors` are of the machine, those of a single GPU are in it.
        A program that runs learns of more GPUs, or that a lost one is back, by a new session only, as with the real
        library.
        """
        major, minor = cuda_version.split(".")
        lines = [f"driver {driver_version}", f"cuda {int(major) * 1000 + int(minor) * 10}", f"delay_ms {delay_ms}"]
        lines += [f"error {function} {code:d}" for function, code in (errors or {}).items()]
        for index, gpu in enumerate(gpus):
            lines += _gpu_lines(index, gpu)
        aside = self._file.with_suffix(".new")
        # Bytes that are not UTF-8 are possible in names, as `\\udcff`.
        aside.write_bytes(os.fsencode("\n".join(lines) + "\n"))
        aside.replace(self._file)

    def unload_driver(self) -> None:
        """Take the driver away, GPUs and all; `set` brings it back."""
        self._file.unlink(missing_ok=True)


def _gpu_lines(index: int, gpu: StubGpu) -> Iterator[str]:
    yield f"gpu {gpu.name}"
    yield f"uuid {gpu.uuid or f'GPU-stub-{index}'}"
    yield f"utilization {gpu.utilization_pct}"
    yield f"memory {gpu.memory_used_mib} {gpu.memory_total_mib}"
    yield f"temperature {gpu.temperature_c}"
    yield f"power {gpu.power_w * 1000:.0f}"
    if gpu.is_mig is not None:
        yield f"mig {gpu.is_mig:d}"
    for pid, utilization_pct in gpu.processes.items():
        yield f"process {pid} {utilization_pct} 0"
    for sample in gpu.samples:
        yield f"process {sample.pid} {sample.utilization_pct} {int((time.time() - sample.age_s) * 1_000_000)}"
    for function, code in gpu.errors.items():
        yield f"error {function} {code:d}"
