"""`/metrics`: the counters of this hub (or of all that share its port), and the grid as this hub sees it now."""

import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from common import __version__
from common.types import NodeState
from hub.errors import RequestFailed
from hub.overview.snapshot import Overview

Snapshot = Mapping[str, Any]
Family: TypeAlias = GaugeMetricFamily | InfoMetricFamily
MULTIPROC_DIR = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus-client keeps the figures of several processes there; whoever starts them names a folder."""
MOST_NODES = 1000
MOST_LANES = 1500
"""So many are told one by one; the sums beside them are of all."""
_GPU_FIGURES = {
    "utilization_pct": ("ghub_node_gpu_utilization_percent", "Time in which any kernel ran", 1),
    "memory_used_mib": ("ghub_node_gpu_memory_used_bytes", "GPU memory in use", 2**20),
    "memory_total_mib": ("ghub_node_gpu_memory_total_bytes", "GPU memory in all", 2**20),
}


class Exposition:
    """Answers scrapes.

    Args:
        counters: where this hub's own counters are registered.
        overview: what the grid is looked at with.
    """

    def __init__(self, counters: CollectorRegistry, overview: Overview) -> None:
        self._counters = counters
        self._overview = overview

    async def text(self) -> bytes:
        """All figures in Prometheus' text form; without a broker those of this hub alone."""
        try:
            snapshot: Snapshot | None = await self._overview.take()
        except RequestFailed:
            snapshot = None
        grid = CollectorRegistry(auto_describe=False)
        grid.register(_Grid(snapshot))
        return generate_latest(self._own()) + generate_latest(grid)

    def _own(self) -> CollectorRegistry:
        if MULTIPROC_DIR not in os.environ:
            return self._counters
        of_all = CollectorRegistry(auto_describe=False)
        MultiProcessCollector(of_all)  # type: ignore[no-untyped-call]
        return of_all


class _Grid(Collector):
    def __init__(self, snapshot: Snapshot | None) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Family]:
        yield InfoMetricFamily("ghub_hub", "What answered", value={"version": __version__})
        yield GaugeMetricFamily("ghub_broker_up", "Whether the broker answers", int(self._snapshot is not None))
        if self._snapshot is not None:
            yield from _totals(self._snapshot)
            yield from _lanes(self._snapshot)
            yield from _models(self._snapshot)
            yield from _nodes(self._snapshot)


def _totals(snapshot: Snapshot) -> Iterable[Family]:
    totals = snapshot["totals"]
    nodes = GaugeMetricFamily("ghub_nodes", "Live nodes by state", labels=["state"])
    for state in NodeState:
        nodes.add_metric([state.value], totals[state.value])
    yield nodes
    held = GaugeMetricFamily("ghub_hub_open_requests", "Requests that a hub process holds", labels=["hub", "address"])
    for name, hub in snapshot["hubs"].items():
        held.add_metric([name, hub["address"]], hub["open_requests"])
    yield held
    yield GaugeMetricFamily("ghub_slots", "Requests that all nodes can run at once", totals["slots"])
    yield GaugeMetricFamily("ghub_running", "Requests that nodes run now", totals["running"])
    yield GaugeMetricFamily("ghub_waiting", "Jobs that wait in all lanes", totals["waiting"])
    yield GaugeMetricFamily("ghub_dead_jobs", "Jobs that failed for good and were not dropped", totals["dead"])


def _lanes(snapshot: Snapshot) -> Iterable[Family]:
    jobs = GaugeMetricFamily("ghub_lane_jobs", "Jobs of a lane, by state", labels=["model", "lane", "state"])
    oldest = GaugeMetricFamily(
        "ghub_lane_oldest_seconds", "How long the first waiting job of a lane waits", labels=["model", "lane"]
    )
    for queue in [*snapshot["queues"].values()][:MOST_LANES]:
        for state in ("waiting", "running"):
            jobs.add_metric([queue["model"], queue["lane"], state], queue[state])
        waited_ms = max(0, snapshot["at"] - queue["oldest_at"]) if "oldest_at" in queue else 0
        oldest.add_metric([queue["model"], queue["lane"]], waited_ms / 1000)
    yield from (jobs, oldest)


def _models(snapshot: Snapshot) -> Iterable[Family]:
    nodes = GaugeMetricFamily("ghub_model_nodes", "Nodes that serve a model", labels=["model"])
    idle = GaugeMetricFamily("ghub_model_idle_nodes", "Those of them that would take a job", labels=["model"])
    for name, model in [*snapshot["models"].items()][:MOST_NODES]:
        nodes.add_metric([name], model["nodes"])
        idle.add_metric([name], model["idle"])
    yield from (nodes, idle)


def _nodes(snapshot: Snapshot) -> Iterable[Family]:
    slots = GaugeMetricFamily("ghub_node_slots", "Requests that a node can run at once", labels=["node"])
    running = GaugeMetricFamily("ghub_node_running", "Requests that a node runs now", labels=["node"])
    reasons = GaugeMetricFamily("ghub_node_paused", "Reasons of a node to take no work", labels=["node", "reason"])
    gpus = {
        field: GaugeMetricFamily(name, text, labels=["node", "gpu"]) for field, (name, text, _) in _GPU_FIGURES.items()
    }
    for name, node in [*snapshot["nodes"].items()][:MOST_NODES]:
        slots.add_metric([name], node["slots"])
        running.add_metric([name], node["running"])
        for reason in node["reasons"]:
            reasons.add_metric([name, reason], 1)
        for number, gpu in enumerate(node["gpus"]):
            for field, family in gpus.items():
                if field in gpu:
                    family.add_metric([name, gpu.get("uuid") or str(number)], gpu[field] * _GPU_FIGURES[field][2])
    yield from (slots, running, reasons, *gpus.values())
