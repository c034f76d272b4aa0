"""The parts of a snapshot. Nothing in it is null: what is not known is left out, so that a merge patch can delete.

Nodes write their entries themselves, and what stands there may be anything: each field is looked at before it is shown.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from common.records.grid import HubRecord, NodeRecord
from common.records.request_book import is_request_id
from common.types import Lane, NodeState

_GPU_TEXTS = ("name", "uuid", "driver_version", "cuda_version")
_GPU_FIGURES = ("memory_used_mib", "memory_total_mib", "utilization_pct", "temperature_c", "power_w")
_RUNNING_FIGURES = ("attempt", "claimed_at", "first_data_at", "tokens")
_LANES = frozenset(lane.value for lane in Lane)
MIN_RATE_OVER_S = 0.5
"""Over less than this no rate is told."""

Shown = dict[str, Any]


def node_shown(node: NodeRecord) -> Shown:
    """A node and how it stands."""
    return {
        "hostname": node.hostname,
        "version": node.version,
        "state": node.state.value,
        "reasons": [*node.reasons],
        "models": [*node.models],
        "loaded": [*node.loaded],
        "slots": node.slots,
        "running": len(node.requests),
        "gpus": [_gpu_shown(gpu) for gpu in node.gpus],
        "engine": {name: text for name in ("kind", "version", "url") if isinstance(text := node.engine.get(name), str)},
        "public_url": node.public_url,
        "started_at": node.started_at,
    }


def hub_shown(hub: HubRecord) -> Shown:
    """A hub process."""
    return {name: getattr(hub, name) for name in ("address", "version", "open_requests", "started_at")}


def running_of(nodes: Iterable[NodeRecord]) -> dict[str, Shown]:
    """Every request that nodes say they run, by its id; of two nodes that name one, the later attempt counts."""
    found: dict[str, Shown] = {}
    for node in nodes:
        for told in node.running:
            shown = _running_shown(node, told)
            if shown is None:
                continue
            request = told["id"]
            if request not in found or found[request].get("attempt", 0) <= shown.get("attempt", 0):
                found[request] = shown
    return found


def totals_of(
    nodes: Iterable[NodeRecord], queues: Iterable[Shown], running: Iterable[Shown], dead: int
) -> dict[str, float]:
    """Sums over the grid."""
    records = [*nodes]
    states = {state: sum(node.state is state for node in records) for state in NodeState}
    return {
        "nodes": len(records),
        **{state.value: count for state, count in states.items()},
        "slots": sum(node.slots for node in records),
        "running": sum(len(node.requests) for node in records),
        "waiting": sum(queue["waiting"] for queue in queues),
        "dead": dead,
        "tokens_per_s": round(sum(one.get("tokens_per_s", 0.0) for one in running), 1),
    }


def _running_shown(node: NodeRecord, told: Mapping[str, Any]) -> Shown | None:
    request, model, lane = told.get("id"), told.get("model"), told.get("lane")
    if not (isinstance(request, str) and isinstance(model, str) and isinstance(lane, str)):
        return None
    if not is_request_id(request) or lane not in _LANES:
        return None
    figures = {name: told[name] for name in _RUNNING_FIGURES if _is_figure(told.get(name))}
    shown: Shown = {"model": model, "node": str(node.node), "lane": lane, **figures}
    shown["status"] = "streaming" if "first_data_at" in figures else "claimed"
    over_s = (node.heartbeat_at - figures.get("first_data_at", node.heartbeat_at)) / 1000
    if "tokens" in figures and over_s >= MIN_RATE_OVER_S:
        shown["tokens_per_s"] = round(figures["tokens"] / over_s, 1)
    return shown


def _gpu_shown(gpu: Mapping[str, Any]) -> Shown:
    texts = {name: text for name in _GPU_TEXTS if isinstance(text := gpu.get(name), str) and text}
    return texts | {name: gpu[name] for name in _GPU_FIGURES if _is_figure(gpu.get(name))}


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
