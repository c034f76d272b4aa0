"""Readings made by a process that was started with the stub in its environment."""

import json
import os
import select
import subprocess

from provider.gate.readings import GpuProcess, GpuReading, GpuSnapshot
from tests.support.nvml import StubNvml
from tests.support.processes import PROJECT, python

ANSWER_LIMIT_S = 20


class Reader:
    """A probe in a process that sees the stub; see `reader`."""

    def __init__(self, nvml: StubNvml, retry_gap_s: float) -> None:
        self._process = subprocess.Popen(
            python("-m", "tests.doubles.nvml.reader", str(retry_gap_s)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=PROJECT,
            env={**os.environ, **nvml.env},
            text=True,
        )

    def sample(self) -> GpuSnapshot:
        told = self._ask("sample")
        gpus = tuple(_gpu(**gpu) for gpu in told.pop("gpus"))
        return GpuSnapshot(gpus=gpus, **told)

    def close_probe(self) -> None:
        assert self._ask("close") is None

    def end(self) -> int:
        self._process.stdin.close()
        try:
            return self._process.wait(ANSWER_LIMIT_S)
        finally:
            self._process.kill()
            self._process.stdout.close()

    def _ask(self, order: str):
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        assert select.select([self._process.stdout], [], [], ANSWER_LIMIT_S)[0], "no answer"
        return json.loads(self._process.stdout.readline())


def _gpu(processes: list[dict[str, int]] | None, **fields) -> GpuReading:
    return GpuReading(processes=None if processes is None else tuple(GpuProcess(**one) for one in processes), **fields)
