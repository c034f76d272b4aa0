"""What a front of all hubs costs: latency and CPU through it, beside the same hub asked directly, in one run.

    uv run python -m bench.connect
    uv run python -m bench.connect --rounds 1 --streams 50

`hub` is asked as any client does; `resumable` asks it for what the front asks: an answer that is kept. What the front
adds by itself is the difference to that. Engine and load are those of `bench.compare`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.compare.load import Figures, Task
from bench.compare.systems import PROJECT, engine
from bench.compare.wire import MODEL
from tests.support.brokers import BrokerProcess
from tests.support.fronts import FrontProcess
from tests.support.grid import Grid

LIMIT_S = 120
RESUMABLE = {"x-ghub-resumable": "1"}


class Measured(NamedTuple):
    """One task at one way in."""

    figures: Figures
    hub_cpu_s: float
    front_cpu_s: float


class Way(NamedTuple):
    """One way in."""

    name: str
    url: str
    headers: dict[str, str]


def load(task: Task) -> Figures:
    """Run the load generator in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.compare.load"],
        input=json.dumps(asdict(task)),
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT,
        timeout=LIMIT_S,
    )
    return Figures(**json.loads(done.stdout))


def measure(task: Task, way: Way, hub: psutil.Process, front: psutil.Process) -> Measured:
    """One run of a task, and what hub and front took for it."""
    before = [_cpu_s(one) for one in (hub, front)]
    figures = load(replace(task, port=int(way.url.rpartition(":")[2]), headers=way.headers))
    if figures.errors or figures.lost or figures.repeated or figures.disordered:
        raise SystemExit(f"{way.name}: {figures}")
    return Measured(figures, *(_cpu_s(one) - old for one, old in zip((hub, front), before, strict=True)))


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def report(name: str, rows: dict[str, list[Measured]]) -> None:
    """One task's table: medians of the rounds."""
    print(f"\n{name}\n| way | first ms | latency p50 ms | p99 ms | hub CPU | front CPU |\n|---|---|---|---|---|---|")
    for way, runs in rows.items():
        per = [100_000 / max(1, one.figures.events) for one in runs]
        told = (
            [one.figures.first_ms for one in runs],
            [one.figures.latency_p50_ms for one in runs],
            [one.figures.latency_p99_ms for one in runs],
            [one.hub_cpu_s * each for one, each in zip(runs, per, strict=True)],
            [one.front_cpu_s * each for one, each in zip(runs, per, strict=True)],
        )
        print(f"| {way} | " + " | ".join(f"{statistics.median(column):.2f}" for column in told) + " |")


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print; CPU in seconds per 100,000 events (or whole answers)."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--streams", type=int, default=100)
    said = options.parse_args(words)
    tasks = {
        "short calls, one after another": Task(port=0, streams=1, is_stream=False, for_s=3),
        "a lone stream": Task(port=0, streams=1, events=150, pace_ms=20),
        f"{said.streams} streams, 20 ms a token": Task(port=0, streams=said.streams, events=150, pace_ms=20),
    }
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = BrokerProcess("valkey", folder)
        stack.callback(broker.stop)
        grid = Grid(broker, folder)
        stack.callback(grid.close)
        hub = grid.hub()
        url = f"http://127.0.0.1:{stack.enter_context(engine())}"
        grid.provider(url, GHUB_PROVIDER_SLOTS=str(said.streams))
        grid.wait_for_model(hub, MODEL)
        front = FrontProcess([hub], folder)
        stack.callback(front.process.kill)
        ways = [Way("hub", hub, {}), Way("resumable", hub, RESUMABLE), Way("front", front.url, {})]
        hub_process, front_process = (psutil.Process(one.pid) for one in (grid.hubs[hub], front.process))
        for name, task in tasks.items():
            rows: dict[str, list[Measured]] = {way.name: [] for way in ways}
            for turn in range(said.rounds):
                for way in ways if turn % 2 == 0 else reversed(ways):
                    rows[way.name].append(measure(task, way, hub_process, front_process))
            report(name, rows)


if __name__ == "__main__":
    main()
