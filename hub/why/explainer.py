"""Finds out what a name means, and why that stands as it does."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from common.broker.clock import BrokerClock
from common.records.credentials import ClientKey
from common.records.limit_looks import LimitLooks
from common.records.registry import Registry
from common.records.request_book import RequestBook, is_request_id
from common.streams.jobs import LaneName, lanes_of
from common.streams.queues import LaneLoad, Queues
from common.types import Lane, ModelId, NodeId, RequestId, RequestStatus
from hub.access.credential_table import CredentialTable
from hub.asking import asking_broker
from hub.errors import NotFound
from hub.grid.near_loads import with_near
from hub.grid.registry_view import RegistryView
from hub.settings import HubSettings
from hub.why.answer import Why
from hub.why.keys import because_of_turn, why_key
from hub.why.models import why_model, why_unknown
from hub.why.nodes import why_absent, why_node
from hub.why.requests import OVER, why_over, why_running, why_waiting


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an explanation is drawn from."""

    view: RegistryView
    registry: Registry
    queues: Queues
    book: RequestBook
    limits: LimitLooks
    credentials: CredentialTable
    clock: BrokerClock


class Explainer:
    """Answers `why`. Raises BrokerAway from every method."""

    def __init__(self, evidence: Evidence, settings: HubSettings) -> None:
        self._from = evidence
        self._settings = settings

    async def explain(self, name: str) -> dict[str, Any]:
        """Why the request, node, model or key of this name stands as it does; a model before a key of the same name.

        Raises:
            NotFound: it is a request's id, and that request is not known (any more).
        """
        with asking_broker("why", self._settings.retry_after_s):
            return (await self._explain(name)).shown(name)

    async def _explain(self, name: str) -> Why:
        view = self._from.view
        if is_request_id(name):
            return await self._request(RequestId(name))
        if (node := view.nodes.get(NodeId(name))) is not None:
            return why_node(node, await self._loads(node.models))
        await view.refresh()
        model = view.names.find(ModelId(name), view.models, view.known)
        if model is not None:
            return await self._model(model, name)
        if (key := self._key(name)) is not None:
            now_ms = self._from.clock.now_ms()
            return why_key(key, await self._from.limits.key(key, now_ms), now_ms)
        reports = await self._from.registry.reports()
        report, is_revoked = reports.get(NodeId(name)), NodeId(name) in view.revoked
        if report is not None or is_revoked:
            seen_s = None if report is None else (self._from.clock.now_ms() - report.reported_at) / 1000
            return why_absent(name, seen_s, is_revoked=is_revoked)
        return why_unknown(name, [*view.known, *view.nodes])

    async def _model(self, model: ModelId, asked: str) -> Why:
        loads = (await self._loads([model])).values()
        total = LaneLoad(sum(load.waiting for load in loads), sum(load.running for load in loads))
        nodes = self._from.view.models.get(model, [])
        return why_model(model, asked, nodes, total, self._settings.max_queue)

    async def _request(self, request: RequestId) -> Why:
        fields = (await self._from.book.read([request])).get(request, {})
        try:
            status = RequestStatus(fields.get("status", ""))
        except ValueError:
            raise NotFound(
                f"There is no request {request!r}, or it ended too long ago.", code="request_not_found"
            ) from None
        now_ms = self._from.clock.now_ms()
        if status in OVER:
            return why_over(status, fields)
        if status is not RequestStatus.QUEUED:
            return why_running(status, fields, now_ms)
        model = ModelId(fields.get("model", ""))
        key = self._key(fields.get("key", ""))
        if "entry" not in fields and fields.get("key"):
            turn_of = None if key is None else await self._from.limits.ahead(key, request)
            standing = None if key is None else await self._from.limits.key(key, now_ms)
            return Why(
                "request",
                f"It waits for its turn among the requests of its key, and has no job for {model} in a lane yet.",
                [because_of_turn(key, standing, turn_of or 0)],
            )
        lane = LaneName(_lane(fields), model)
        (ahead,) = await self._from.queues.places([(request, lane)])
        return why_waiting(fields, now_ms, ahead, await self._model(model, model))

    async def _loads(self, models: Iterable[ModelId]) -> dict[LaneName, LaneLoad]:
        return with_near(await self._from.queues.loads(lanes_of(models)), self._from.view.nodes.values())

    def _key(self, name: str) -> ClientKey | None:
        keys = self._from.credentials.keys.values()
        return next((key for key in keys if name and name in (key.id, key.name)), None)


def _lane(fields: Mapping[str, str]) -> Lane:
    try:
        return Lane(fields.get("lane", ""))
    except ValueError:
        return Lane.INTERACTIVE
