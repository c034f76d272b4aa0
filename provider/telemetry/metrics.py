"""Figures for Prometheus, read at the moment they are asked for."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from common.report import HealthReport

Family: TypeAlias = GaugeMetricFamily | CounterMetricFamily | InfoMetricFamily
Counts = Callable[[], Iterable[tuple[str, int]]]
"""Pairs of an outcome and how often it was."""


class ProviderMetrics(Collector):
    """Turns a health report and the counts of jobs, direct calls and reports into metric families."""

    def __init__(
        self, health: Callable[[], HealthReport], *, jobs: Counts, direct_calls: Counts, reports: Counts
    ) -> None:
        self._health = health
        self._counts = {
            "ghub_provider_jobs": ("Jobs that ended, by outcome", jobs),
            "ghub_provider_direct_calls": ("Direct calls that ended, by outcome", direct_calls),
            "ghub_provider_reports": ("Health reports to the hub, by outcome", reports),
        }

    def collect(self) -> Iterable[Family]:
        """All families, as they stand now."""
        report = self._health()
        facts = {"node": report.node, "version": report.version, "engine": report.engine.kind}
        yield InfoMetricFamily("ghub_provider", "What this provider is", value=facts)
        yield GaugeMetricFamily("ghub_provider_slots", "Requests that may run at once", report.slots)
        yield GaugeMetricFamily("ghub_provider_running", "Requests that run now", report.running)
        yield GaugeMetricFamily("ghub_provider_models", "Models of the engine", len(report.models))
        reasons = GaugeMetricFamily("ghub_provider_paused", "Reasons to take no work that stand", labels=["reason"])
        for reason in report.reasons:
            reasons.add_metric([reason], 1)
        yield reasons
        yield from _gpu_families(report)
        for name, (text, counts) in self._counts.items():
            family = CounterMetricFamily(name, text, labels=["outcome"])
            for outcome, count in counts():
                family.add_metric([outcome], count)
            yield family


_GPU_FIGURES = {
    "utilization_pct": ("ghub_gpu_utilization_percent", "Time in which any kernel ran", 1),
    "memory_used_mib": ("ghub_gpu_memory_used_bytes", "Memory in use", 2**20),
    "memory_total_mib": ("ghub_gpu_memory_total_bytes", "Memory in all", 2**20),
    "temperature_c": ("ghub_gpu_temperature_celsius", "Temperature", 1),
    "power_w": ("ghub_gpu_power_watts", "Power drawn", 1),
}


def _gpu_families(report: HealthReport) -> Iterable[Family]:
    for field, (name, text, factor) in _GPU_FIGURES.items():
        family = GaugeMetricFamily(name, text, labels=["gpu", "name"])
        for number, gpu in enumerate(report.gpus):
            if (value := getattr(gpu, field)) is not None:
                family.add_metric([gpu.uuid or str(number), gpu.name], value * factor)
        yield family


def registry_of(metrics: ProviderMetrics) -> CollectorRegistry:
    """A registry of these metrics alone: nothing of the process is registered behind its back."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    return registry
