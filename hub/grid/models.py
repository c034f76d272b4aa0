"""How each model stands: who serves it, what waits for it and what runs."""

from collections.abc import Iterable, Mapping
from typing import Any

from common.records.grid import NodeRecord
from common.streams.jobs import LaneName
from common.streams.queues import LaneLoad
from common.types import ModelId, NodeState


def models_of(
    known: Iterable[ModelId], served: Mapping[ModelId, list[NodeRecord]], loads: Mapping[LaneName, LaneLoad]
) -> dict[str, dict[str, Any]]:
    """Each of the known models, with what its lanes hold; in name order."""
    totals: dict[ModelId, tuple[int, int]] = {}
    for name, load in loads.items():
        waiting, running = totals.get(name.model, (0, 0))
        totals[name.model] = waiting + load.waiting, running + load.running
    shown = {}
    for model in sorted(known):
        nodes = served.get(model, [])
        waiting, running = totals.get(model, (0, 0))
        shown[str(model)] = {
            "nodes": len(nodes),
            "idle": sum(node.state is NodeState.IDLE for node in nodes),
            "loaded": [str(node.node) for node in nodes if model in node.loaded],
            "waiting": waiting,
            "running": running,
        }
    return shown
