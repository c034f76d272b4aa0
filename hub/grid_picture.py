"""The whole grid as `/api/registry` shows it, put together when somebody asks."""

from typing import Any

from common.errors import BrokerError
from common.registry import NodeRecord, Registry
from common.report import StoredReport
from common.streams.jobs import JobLanes, LaneLoad, LaneName, lanes_of
from common.types import ModelId, NodeState
from hub.errors import BrokerAway
from hub.registry_view import RegistryView
from hub.settings import HubSettings


class GridPicture:
    """Nodes and models from this hub's view; what waits, and what nodes reported, from the broker."""

    def __init__(self, view: RegistryView, lanes: JobLanes, registry: Registry, settings: HubSettings) -> None:
        self._view = view
        self._lanes = lanes
        self._registry = registry
        self._retry_after_s = settings.retry_after_s

    async def take(self) -> dict[str, Any]:
        """`nodes` that live, `absent` ones that only reported, and `models`.

        Raises:
            BrokerAway: the broker does not answer.
        """
        models = sorted(self._view.known)
        try:
            loads = await self._lanes.loads(lanes_of(models))
            reports = await self._registry.reports()
        except BrokerError as exc:
            raise BrokerAway("the broker does not answer", retry_after_s=self._retry_after_s) from exc
        nodes = self._view.nodes
        return {
            "nodes": [_node_shown(nodes[node], reports.get(node)) for node in sorted(nodes)],
            "absent": [
                {"node": node, "report": _report_shown(report)}
                for node, report in sorted(reports.items())
                if node not in nodes
            ],
            "models": [self._model_shown(model, loads) for model in models],
        }

    def _model_shown(self, model: ModelId, loads: dict[LaneName, LaneLoad]) -> dict[str, Any]:
        nodes = self._view.models.get(model, [])
        mine = [load for lane, load in loads.items() if lane.model == model]
        total = LaneLoad(sum(load.waiting for load in mine), sum(load.running for load in mine))
        idle = sum(node.state is NodeState.IDLE for node in nodes)
        return {"id": model, "nodes": len(nodes), "idle": idle, **total._asdict()}


def _node_shown(node: NodeRecord, report: StoredReport | None) -> dict[str, Any]:
    shown = {name: getattr(node, name) for name in node.__slots__ if name != "instance"}
    return {**shown, "report": None if report is None else _report_shown(report)}


def _report_shown(report: StoredReport) -> dict[str, Any]:
    return report.model_dump(mode="json")
