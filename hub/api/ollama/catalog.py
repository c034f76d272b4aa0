"""What is known of the models of the grid, as far as providers report it."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from common.endpoints import Capability
from common.errors import BrokerError
from common.records.grid import NodeRecord
from common.records.registry import Registry
from common.report import ModelReport
from common.types import ModelId
from hub.access.gatekeeper import Caller
from hub.errors import ModelNotFound
from hub.grid.registry_view import RegistryView

log = structlog.get_logger()

REPORTS_S = 5.0
"""How long the reports that were read serve: they come every minute or so, and clients ask for lists all the time."""


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model under one of its names. What nobody tells is 0 or empty."""

    name: ModelId
    is_loaded: bool
    """Whether it is in some node's memory."""
    capabilities: frozenset[str]
    """What the engines that serve it can do."""
    size_bytes: int = 0
    digest: str = ""


class Catalog:
    """The models that live nodes serve, with what the nodes' reports say of them."""

    def __init__(self, view: RegistryView, registry: Registry) -> None:
        self._view = view
        self._registry = registry
        self._reported: dict[ModelId, ModelReport] = {}
        self._read_at = float("-inf")

    async def models(self, caller: Caller) -> list[KnownModel]:
        """All that a client may know of, by name, aliases included."""
        await self._read_reports()
        listed = sorted(self._view.names.listed(self._view.models).items())
        return [self._known(name, model) for name, model in listed if caller.sees(name, model)]

    async def find(self, caller: Caller, asked: ModelId) -> KnownModel:
        """One of them, under any of its names.

        Raises:
            ModelNotFound: no live node serves it, or the client may not know.
        """
        model = self._view.names.find(asked, self._view.models)
        if model is None or not caller.sees(asked, model):
            raise ModelNotFound(f"model {asked!r} not found", param="model")
        await self._read_reports()
        return self._known(asked, model)

    def _known(self, name: ModelId, model: ModelId) -> KnownModel:
        nodes = self._view.models[model]
        told = self._reported.get(model)
        return KnownModel(
            name=name,
            is_loaded=any(model in node.loaded for node in nodes),
            capabilities=frozenset(_capabilities(nodes)),
            size_bytes=(told.size_bytes or 0) if told else 0,
            digest=told.digest if told else "",
        )

    async def _read_reports(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._read_at < REPORTS_S:
            return
        self._read_at = now
        try:
            reports = await self._registry.reports()
        except BrokerError as exc:  # sizes are no reason to refuse a list
            log.warning("broker_unavailable", doing="reports", error=str(exc))
            return
        told = [model for report in reports.values() for model in report.models]
        # of several nodes' reports the one that says more
        told.sort(key=lambda model: (bool(model.digest), model.size_bytes or 0, model.digest))
        self._reported = {ModelId(model.id): model for model in told}


def _capabilities(nodes: Iterable[NodeRecord]) -> Iterable[str]:
    for node in nodes:
        told = node.engine.get("capabilities")
        if isinstance(told, list):
            yield from (one for one in told if one in tuple(Capability))
