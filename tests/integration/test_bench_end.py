"""A bench that is told to end leaves nothing behind."""

import os
import signal
import subprocess

import psutil

from tests.support.nursery import SHARED
from tests.support.processes import PROJECT, python, until

BENCH = python("-m", "bench.overview", "--nodes", "1", "--queued", "0", "--serve")


def test_a_bench_that_is_told_to_end_ends_all_that_it_started() -> None:
    env = {name: value for name, value in os.environ.items() if name != SHARED}  # its children shall be its own
    with subprocess.Popen(BENCH, cwd=PROJECT, env=env, stdout=subprocess.PIPE, text=True) as bench:
        assert bench.stdout is not None
        assert "1 nodes" in bench.stdout.readline()
        started = psutil.Process(bench.pid).children(recursive=True)
        assert len(started) >= 2
        bench.terminate()
        assert bench.wait(20) == 128 + signal.SIGTERM
    until(lambda: not any(one.is_running() for one in started), 5, lambda: started)
