"""A comparison: every workload in turn, and within it every system in turn, several rounds of it."""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.compare.load import Figures, Task, load
from bench.compare.system import NotHere, System
from bench.compare.systems import ALL, engine
from bench.compare.usage import Meter, role_of
from bench.compare.workloads import Workload

SETTLE_S = 0.4
"""Between two measurements: what the last one left to do is not the next one's."""
BEYOND = {"LiteLLM": 200, "Portkey": 500}
"""How many paced streams a system is asked for at most: past that it only falls over, for a minute each time."""


@dataclass
class Measured:
    """One system under one workload, once."""

    system: str
    workload: str
    round: int
    figures: Figures
    cpu_s: dict[str, float] = field(default_factory=dict)
    """Of each kind of process of the system."""
    peak_mib: dict[str, float] = field(default_factory=dict)
    begin_mib: dict[str, float] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, float]:
        """What tables are made of."""
        figures, cpu_s = self.figures, sum(self.cpu_s.values())
        return {
            "requests_per_s": figures.requests / figures.seconds if figures.seconds else 0.0,
            "events_per_s": figures.events / figures.seconds if figures.seconds else 0.0,
            "cpu_ms_per_request": 1000 * cpu_s / figures.requests if figures.requests else 0.0,
            "cpu_s_per_100k": 1e5 * cpu_s / figures.events if figures.events else 0.0,
            "peak_mib": sum(self.peak_mib.values()),
            **{f"cpu_s_per_100k {role}": 1e5 * one / max(1, figures.events) for role, one in self.cpu_s.items()},
            **{f"growth_mib {role}": one - self.begin_mib.get(role, one) for role, one in self.peak_mib.items()},
            **{name: value for name, value in asdict(figures).items() if name != "error"},
        }

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "values": self.values}


def medians(measured: Sequence[Measured]) -> dict[tuple[str, str], dict[str, float]]:
    """Of each system and workload, the median of each value over the rounds; of errors and lost events the sum."""
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for one in measured:
        found.setdefault((one.system, one.workload), []).append(one.values)
    summed = ("errors", "lost", "repeated", "disordered")
    return {
        cell: {
            name: (sum if name in summed else statistics.median)([one.get(name, 0.0) for one in some])
            for name in some[-1]
        }
        for cell, some in found.items()
    }


def compare(
    systems: Sequence[str], workloads: Sequence[Workload], rounds: int, folder: Path, say: Callable[[str], None]
) -> list[Measured]:
    """Measure; systems that cannot be had are left out."""
    measured: list[Measured] = []
    with ExitStack() as stack:
        port = stack.enter_context(engine())
        running: list[System] = []
        for name in systems:
            try:
                running.append(stack.enter_context(ALL[name](port, folder)))
                say(f"{name} is ready")
            except NotHere as exc:
                say(f"without {name}: {exc}")
        for nth in range(rounds):
            for workload in workloads:
                for system in running[nth % len(running) :] + running[: nth % len(running)]:
                    if workload.kind == "paced" and workload.streams > BEYOND.get(system.name, workload.streams):
                        continue
                    measured.append(measure(system, workload, nth))
                    say(line(measured[-1]))
    return measured


def measure(system: System, workload: Workload, nth: int) -> Measured:
    """One system under one workload."""
    task = Task(
        port=system.port,
        headers=system.headers,
        streams=workload.streams,
        events=workload.events,
        pace_ms=workload.pace_ms,
        is_stream=workload.is_stream,
        for_s=workload.for_s,
    )
    time.sleep(SETTLE_S)
    meter = Meter(system.pids, role_of)
    meter.start()
    figures = load(task)
    used = meter.stop()
    return Measured(system.name, workload.name, nth, figures, used.cpu_s, used.peak_mib, used.begin_mib)


def line(one: Measured) -> str:
    """What a measurement came to, for whoever watches."""
    values, figures = one.values, one.figures
    bad = f"  errors {figures.errors}: {figures.error[:200]}" if figures.errors else ""
    wrong = f"  lost {figures.lost} repeated {figures.repeated}" if figures.lost or figures.repeated else ""
    shares = " ".join(f"{role} {cpu:.2f}" for role, cpu in sorted(one.cpu_s.items()) if cpu >= 0.005)
    return (
        f"{one.workload:11} {one.system:12} {values['requests_per_s']:8.0f} req/s"
        f" {values['events_per_s']:9.0f} events/s  {values['cpu_ms_per_request']:7.3f} ms/req"
        f" {values['cpu_s_per_100k']:7.2f} s/100k"
        f"  {figures.seconds:5.2f} s  first {figures.first_ms:7.2f} gap99 {figures.gap_p99_ms:6.1f}"
        f" latency {figures.latency_p50_ms:6.2f} ms  [{shares}]{wrong}{bad}"
    )
