"""The whole grid as `/api/registry` shows it, put together when somebody asks."""

from typing import Any

from common.records.grid import NodeRecord
from common.records.registry import Registry
from common.report import StoredReport
from common.streams.jobs import JobLanes, lanes_of
from common.streams.queues import Queues
from hub.asking import asking_broker
from hub.errors import NotFound
from hub.grid.models import models_of
from hub.grid.near_loads import with_near
from hub.grid.registry_view import RegistryView
from hub.settings import HubSettings

_UNSHOWN = ("instance", "lease_ms")


class GridPicture:
    """Nodes and models from this hub's view; what waits, and what nodes reported, from the broker.

    Raises BrokerAway from every method.
    """

    def __init__(
        self, view: RegistryView, lanes: JobLanes, queues: Queues, registry: Registry, settings: HubSettings
    ) -> None:
        self._view = view
        self._lanes = lanes
        self._queues = queues
        self._registry = registry
        self._retry_after_s = settings.retry_after_s

    async def take(self) -> dict[str, Any]:
        """`nodes` that live, `absent` ones that only reported, and `models`."""
        with asking_broker("registry", self._retry_after_s):
            await self._view.renew()
            models = sorted(self._view.known)
            loads = with_near(await self._queues.loads(lanes_of(models)), self._view.nodes.values())
            reports = await self._registry.reports()
        nodes = self._view.nodes
        return {
            "nodes": [_node_shown(nodes[node], reports.get(node)) for node in sorted(nodes)],
            "absent": [
                {"node": node, "report": _report_shown(report)}
                for node, report in sorted(reports.items())
                if node not in nodes
            ],
            "models": [_model_shown(*told) for told in models_of(models, self._view.models, loads).items()],
        }

    async def node(self, name: str) -> dict[str, Any]:
        """One of the `nodes`; NotFound without it."""
        found: dict[str, Any] | None = next(
            (node for node in (await self.take())["nodes"] if node["node"] == name), None
        )
        if found is None:
            raise unknown_node(name)
        return found

    async def hubs(self) -> list[dict[str, Any]]:
        """Every live hub process, as an operator sees it."""
        with asking_broker("hubs", self._retry_after_s):
            hubs = await self._registry.live_hubs()
        shown = [{name: getattr(hub, name) for name in hub.__slots__} | {"url": hub.url or None} for hub in hubs]
        return sorted(shown, key=lambda hub: str(hub["hub"]))

    async def hubs_for_clients(self) -> list[dict[str, Any]]:
        """The same for clients, without the addresses that hubs listen on."""
        return [{name: said for name, said in hub.items() if name != "address"} for hub in await self.hubs()]

    async def queues(self) -> list[dict[str, Any]]:
        """Every lane in use, a model's in the order in which nodes look, with what it holds."""
        with asking_broker("queues", self._retry_after_s):
            known = await self._lanes.known()
            loads = await self._queues.loads(sorted(known, key=lambda name: (name.model, name.lane.urgency)))
        shown = with_near(loads, self._view.nodes.values())
        return [{"model": name.model, "lane": name.lane.value, **load._asdict()} for name, load in shown.items()]


def _node_shown(node: NodeRecord, report: StoredReport | None) -> dict[str, Any]:
    shown = {name: getattr(node, name) for name in node.__slots__ if name not in _UNSHOWN}
    return {**shown, "report": None if report is None else _report_shown(report)}


def _model_shown(model: str, told: dict[str, Any]) -> dict[str, Any]:
    return {"id": model, **{name: told[name] for name in ("nodes", "idle", "waiting", "running")}}


def _report_shown(report: StoredReport) -> dict[str, Any]:
    return report.model_dump(mode="json")


def unknown_node(node: str) -> NotFound:
    """What is said of a node that isn't there."""
    return NotFound(f"There is no live node {node!r}.", code="node_not_found")
