"""What a front of all hubs costs: latency and CPU through it, beside the same hub asked directly, in one run.

    uv run python -m bench.connect
    uv run python -m bench.connect --rounds 1 --streams 50

`hub` is asked as any client does; `resumable` asks it for what the front asks: an answer that is kept. What the front
adds by itself is the difference to that. Engine and load are those of `bench.compare`.
"""

import argparse
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple

from bench.compare.load import Figures, Task, load
from bench.compare.systems import engine
from bench.compare.wire import MODEL
from bench.ending import end_when_told
from bench.ground import cpu_s, empty_grid
from tests.support.fronts import FrontProcess

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


def measure(task: Task, way: Way, hub: int, front: int) -> Measured:
    """One run of a task, and what the processes of hub and front took for it."""
    before = [cpu_s(pid) for pid in (hub, front)]
    figures = load(replace(task, port=int(way.url.rpartition(":")[2]), headers=way.headers))
    if figures.errors or figures.lost or figures.repeated or figures.disordered:
        raise SystemExit(f"{way.name}: {figures}")
    return Measured(figures, *(cpu_s(pid) - old for pid, old in zip((hub, front), before, strict=True)))


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
        grid = stack.enter_context(empty_grid())
        hub = grid.hub()
        url = f"http://127.0.0.1:{stack.enter_context(engine())}"
        grid.provider(url, GHUB_PROVIDER_SLOTS=str(said.streams))
        grid.wait_for_model(hub, MODEL)
        front = FrontProcess([hub], grid.folder)
        stack.callback(front.process.kill)
        ways = [Way("hub", hub, {}), Way("resumable", hub, RESUMABLE), Way("front", front.url, {})]
        pids = (grid.hubs[hub].pid, front.process.pid)
        for name, task in tasks.items():
            rows: dict[str, list[Measured]] = {way.name: [] for way in ways}
            for turn in range(said.rounds):
                for way in ways if turn % 2 == 0 else reversed(ways):
                    rows[way.name].append(measure(task, way, *pids))
            report(name, rows)


if __name__ == "__main__":
    end_when_told()
    main()
