"""NVIDIA GPUs as NVML tells of them. No other module knows `pynvml`.

`pynvml` keeps its state in its module: the library, once found, stays loaded for the life of the process, while a
session begins with `nvmlInit` and ends with `nvmlShutdown`. A failed `nvmlInit` leaves nothing behind that would
hinder a later one: a missing library is searched for again, a library whose driver was missing asks again for it.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

import pynvml  # type: ignore[import-untyped]  # it comes without types, and there are no stubs for it

from provider.gate.readings import GpuProcess, GpuReading, GpuSnapshot

_PROCESS_WINDOW_S = 1.5
"""How far back the processes are asked for.

Drivers sample every 1/6 to 1 s. Asked only for what came since the last reading, they answer several times in a second
that nobody ran, however busy the GPU is. So every reading looks back over a whole period and half of one for the delay
until the driver shows it. Samples of processes long gone are out of it, too.
"""
_CLOCK_SLACK_S = 1.0
"""Samples from further in the future were made before the clock was set back: they would stay new for as long."""

_DRIVER_GONE = frozenset(
    {pynvml.NVML_ERROR_UNINITIALIZED, pynvml.NVML_ERROR_DRIVER_NOT_LOADED, pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH}
)
_GPU_GONE = frozenset({pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED})

_TROUBLE = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver: its library libnvidia-ml is not there or cannot be loaded",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is installed, but its kernel module is not loaded",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the NVIDIA driver was changed: its library and its kernel module differ"
    " in version until the machine is started anew",
    pynvml.NVML_ERROR_NO_PERMISSION: "no permission to use the NVIDIA driver (see who may open /dev/nvidia*)",
    pynvml.NVML_ERROR_GPU_IS_LOST: "the NVIDIA driver has lost its GPU",
}

T = TypeVar("T")


class NvmlProbe:
    """A `GpuProbe` for the GPUs of this machine.

    Without a driver, and with a GPU lost, it begins a new session every `retry_gap_s` seconds at most: a driver that
    comes later and a GPU that was reset are found, and the calls between cost nothing.
    """

    def __init__(self, *, retry_gap_s: float = 10.0) -> None:
        self._retry_gap_s = retry_gap_s
        self._tried_at_s = -math.inf
        self._is_open = False
        self._wants_renewal = False
        self._error = ""
        self._identities: dict[int, tuple[str, str]] = {}
        """Name and UUID by index, for a GPU that no longer tells its own."""

    def sample(self) -> GpuSnapshot:
        """Read all GPUs now. Trouble is no exception but an `error`, and mends itself at a later call."""
        is_due = time.monotonic() >= self._tried_at_s + self._retry_gap_s
        if is_due and self._wants_renewal:
            self.close()
        if not self._is_open and not is_due:
            return GpuSnapshot(error=self._error)
        try:
            if not self._is_open:
                self._open()
            return self._read()
        except pynvml.NVMLError as error:
            self.close()
            self._error = _TROUBLE.get(error.value, f"the NVIDIA driver does not answer: {error}")
            return GpuSnapshot(error=self._error)

    def close(self) -> None:
        """Let go of the driver."""
        if self._is_open:
            self._is_open = False
            # It fails where the driver has ended the session by itself.
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()

    def _open(self) -> None:
        self._tried_at_s = time.monotonic()
        pynvml.nvmlInit()
        self._is_open = True
        self._wants_renewal = False

    def _read(self) -> GpuSnapshot:
        gpus = tuple(self._read_gpu(index) for index in range(pynvml.nvmlDeviceGetCount()))
        # A session knows the GPUs there were at its beginning; one plugged in later takes another.
        self._wants_renewal |= not gpus
        return GpuSnapshot(
            gpus=gpus,
            driver_version=_text(pynvml.nvmlSystemGetDriverVersion),
            cuda_version=_cuda_version(),
            error="" if gpus else "the NVIDIA driver finds no GPU",
        )

    def _read_gpu(self, index: int) -> GpuReading:
        """One GPU. One that is lost tells nothing, and hides none of the others.

        Raises:
            pynvml.NVMLError: The driver is gone, and with it all of them.
        """
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            reading = _reading(index, handle)
        except pynvml.NVMLError as error:
            if error.value in _DRIVER_GONE:
                raise
            self._wants_renewal = True
            return GpuReading(index, *self._identities.get(index, ("", "")))
        self._identities[index] = (reading.name, reading.uuid)
        return reading


def _reading(index: int, handle: pynvml.c_nvmlDevice_t) -> GpuReading:
    mig_mode = _known(lambda: pynvml.nvmlDeviceGetMigMode(handle))
    # Shared out by MIG, its utilisation is no figure of the whole; some drivers refuse it, others tell one.
    is_mig = mig_mode is not None and mig_mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE
    utilization = None if is_mig else _known(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle))
    memory = _known(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
    power_mw = _known(lambda: pynvml.nvmlDeviceGetPowerUsage(handle))
    return GpuReading(
        index=index,
        name=_text(lambda: pynvml.nvmlDeviceGetName(handle)),
        uuid=_text(lambda: pynvml.nvmlDeviceGetUUID(handle)),
        utilization_pct=None if utilization is None else min(100, utilization.gpu),
        memory_used_mib=None if memory is None else memory.used >> 20,
        memory_total_mib=None if memory is None else memory.total >> 20,
        temperature_c=_known(lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
        power_w=None if power_mw is None else power_mw / 1000,
        processes=None if is_mig else _processes(handle),
    )


def _processes(handle: pynvml.c_nvmlDevice_t) -> tuple[GpuProcess, ...] | None:
    now_us = time.time_ns() // 1000
    since_us = now_us - int(_PROCESS_WINDOW_S * 1_000_000)
    try:
        samples = pynvml.nvmlDeviceGetProcessUtilization(handle, since_us)
    except pynvml.NVMLError as error:
        _raise_if_gone(error)
        return () if error.value == pynvml.NVML_ERROR_NOT_FOUND else None
    until_us = now_us + int(_CLOCK_SLACK_S * 1_000_000)
    return _by_process(sample for sample in samples if since_us < sample.timeStamp <= until_us)


def _by_process(samples: Iterable[pynvml.c_nvmlProcessUtilizationSample_t]) -> tuple[GpuProcess, ...]:
    """Each process with the mean of its samples.

    The means of processes that took turns add up to no more than the GPU could do; their peaks would.
    """
    shares: dict[int, list[int]] = {}
    for sample in samples:
        # Drivers leave some of the samples unfilled, or filled with impossible values.
        if sample.pid != 0 and sample.smUtil <= 100:
            shares.setdefault(sample.pid, []).append(sample.smUtil)
    return tuple(GpuProcess(pid, round(sum(pcts) / len(pcts))) for pid, pcts in sorted(shares.items()))


def _cuda_version() -> str:
    version = _known(pynvml.nvmlSystemGetCudaDriverVersion_v2)
    return "" if version is None else f"{version // 1000}.{version % 1000 // 10}"


def _text(read: Callable[[], str | bytes]) -> str:
    """A name or version; empty if it isn't told, or not in UTF-8. Some releases of pynvml leave the decoding to us."""
    try:
        text = _known(read)
    except UnicodeDecodeError:
        return ""
    return text.decode(errors="replace") if isinstance(text, bytes) else text or ""


def _known(read: Callable[[], T]) -> T | None:
    """A value; None if just this one can't be told (not supported, no permission, an older driver, …).

    Raises:
        pynvml.NVMLError: Neither can any other, of this GPU or of all.
    """
    try:
        return read()
    except pynvml.NVMLError as error:
        _raise_if_gone(error)
        return None


def _raise_if_gone(error: pynvml.NVMLError) -> None:
    if error.value in _DRIVER_GONE or error.value in _GPU_GONE:
        raise error
