"""What benches share: the ground to measure on, and CPU seconds."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.support.brokers import BrokerProcess
from tests.support.grid import Grid


@contextmanager
def empty_grid() -> Iterator[Grid]:
    """A broker, and a grid on it in which nothing runs yet; both end with the block."""
    with tempfile.TemporaryDirectory() as folder:
        broker = BrokerProcess("valkey", Path(folder))
        grid = Grid(broker, Path(folder))
        try:
            yield grid
        finally:
            grid.close()
            broker.stop()


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
