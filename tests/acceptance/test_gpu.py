"""Readings of a real GPU: idle, and under load from another process. Without one these tests skip."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from provider.gate.nvml import NvmlProbe
from provider.gate.readings import GpuReading
from provider.settings import GateSettings
from tests.support.processes import PROJECT, python, until

pytestmark = pytest.mark.gpu

THRESHOLD_PCT = GateSettings().threshold_pct
GAP_S = GateSettings().sample_interval_s
WITHIN_S = 20
INITIAL_PID_NAMESPACE = "pid:[4026531836]"
"""Linux gives the first one this number. In any other (a container), pids of the driver may not be ours."""


class Gpu:
    """The first GPU that tells its utilisation."""

    def __init__(self, probe: NvmlProbe) -> None:
        self._probe = probe
        snapshot = probe.sample()
        if snapshot.error:
            pytest.skip(snapshot.error)
        self.driver_version, self.cuda_version = snapshot.driver_version, snapshot.cuda_version
        telling = [gpu.index for gpu in snapshot.gpus if gpu.utilization_pct is not None]
        if not telling:
            pytest.skip("no GPU here tells its utilisation")
        self._index = telling[0]

    def read(self) -> GpuReading:
        return self._probe.sample().gpus[self._index]

    def utilization_pct(self) -> int:
        pct = self.read().utilization_pct
        assert pct is not None
        return pct

    def share_pct(self, pid: int) -> int:
        """Of one process; in a container, where its pid may be another to the driver, of whoever uses most."""
        shares = {one.pid: one.utilization_pct for one in self.read().processes or ()}
        if Path("/proc/self/ns/pid").readlink() == Path(INITIAL_PID_NAMESPACE):
            return shares.get(pid, 0)
        return max(shares.values(), default=0)


@pytest.fixture
def gpu() -> Iterator[Gpu]:
    with closing(NvmlProbe()) as probe:
        yield Gpu(probe)


@pytest.fixture
def idle_gpu(gpu: Gpu) -> Gpu:
    until(lambda: gpu.utilization_pct() < THRESHOLD_PCT, WITHIN_S, lambda: f"idle; it is in use: {gpu.read()}")
    return gpu


@contextmanager
def load_on(gpu: GpuReading) -> Iterator[int]:
    """Another process that keeps the GPU busy; its pid."""
    process = subprocess.Popen(
        python("-m", "tests.doubles.nvml.load"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=PROJECT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": gpu.uuid},
    )
    try:
        assert process.stdout.readline() == b"busy\n"
        yield process.pid
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.stdout.close()


def test_the_figures_of_a_real_gpu_make_sense(gpu: Gpu):
    reading = gpu.read()
    assert reading.name.strip()
    assert reading.uuid.startswith("GPU-")
    assert 0 <= reading.utilization_pct <= 100
    assert reading.memory_total_mib is None or 1_000 < reading.memory_total_mib < 4_000_000
    assert reading.memory_used_mib is None or 0 <= reading.memory_used_mib <= reading.memory_total_mib
    assert reading.temperature_c is None or 0 < reading.temperature_c < 120
    assert reading.power_w is None or 0 < reading.power_w < 3_000
    assert all(0 <= one.utilization_pct <= 100 for one in reading.processes or ())
    assert gpu.driver_version.split(".")[0].isdigit()
    assert gpu.cuda_version.split(".")[0].isdigit()


def test_load_from_another_process_is_seen_with_its_pid_and_so_is_its_end(idle_gpu: Gpu):
    with load_on(idle_gpu.read()) as pid:
        until(lambda: idle_gpu.utilization_pct() > THRESHOLD_PCT, WITHIN_S, lambda: f"busy: {idle_gpu.read()}")
        if idle_gpu.read().processes is not None:
            until(lambda: idle_gpu.share_pct(pid) > THRESHOLD_PCT, WITHIN_S, lambda: f"{pid} in {idle_gpu.read()}")
    until(lambda: idle_gpu.utilization_pct() < THRESHOLD_PCT, WITHIN_S, lambda: f"idle: {idle_gpu.read()}")


def test_readings_as_often_as_the_gate_makes_them_always_show_a_process_that_works(idle_gpu: Gpu):
    with load_on(idle_gpu.read()) as pid:
        if idle_gpu.read().processes is None:
            pytest.skip("this GPU does not tell its processes")
        until(lambda: idle_gpu.share_pct(pid) > THRESHOLD_PCT, WITHIN_S, lambda: f"{pid} in {idle_gpu.read()}")
        readings = []
        for _ in range(12):
            time.sleep(GAP_S)
            readings.append(idle_gpu.share_pct(pid))
    assert min(readings) > THRESHOLD_PCT, readings
