"""The snapshot: nodes, models, queues, what runs and waits, and the last hour, put together when somebody looks.

Nodes and models are this hub's view, which it keeps anyway. The rest is asked of the broker in a few round trips,
however many nodes and requests there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common import __version__
from common.broker.clock import BrokerClock
from common.reasons import WORDS
from common.records.history import STEP_S, History, Minute
from common.records.registry import Registry
from common.records.request_book import RequestBook, is_request_id, number_of
from common.streams.dead import DeadLetters
from common.streams.jobs import JobLanes, LaneName
from common.streams.queues import LaneLoad, Queues
from common.types import HubId, RequestId
from hub.asking import asking_broker
from hub.grid.models import models_of
from hub.grid.near_loads import with_near
from hub.grid.registry_view import RegistryView
from hub.overview.history import shown_points
from hub.overview.parts import Shown, hub_shown, node_shown, running_of, totals_of
from hub.settings import HubSettings

MOST_RUNNING = 200
MOST_WAITING = 50
"""So many requests are shown; the counts beside them are of all."""
HISTORY_STEP_MS = 3000


@dataclass(frozen=True, slots=True)
class Sources:
    """What a snapshot is taken from."""

    view: RegistryView
    lanes: JobLanes
    queues: Queues
    registry: Registry
    book: RequestBook
    dead: DeadLetters
    history: History
    clock: BrokerClock


class Overview:
    """Takes snapshots."""

    def __init__(self, hub: HubId, sources: Sources, settings: HubSettings) -> None:
        self._hub = hub
        self._from = sources
        self._needs_keys = settings.needs_client_keys
        self._retry_after_s = settings.retry_after_s
        self._facts: dict[RequestId, Shown] = {}
        """Of requests that were shown last: what never changes, so that it is asked for once."""
        self._minutes: Sequence[Minute] = ()
        self._minutes_read_at = 0

    async def take(self) -> dict[str, Any]:
        """The whole grid now; `docs/api.md` has its form. Raises BrokerAway."""
        sources, view = self._from, self._from.view
        now_ms = sources.clock.now_ms()
        with asking_broker("overview", self._retry_after_s):
            await view.renew()
            known = await sources.lanes.known()
            lanes = sorted(known, key=lambda name: (name.model, name.lane.urgency))
            loads = with_near(await sources.queues.loads(lanes), view.nodes.values())
            hubs = await sources.registry.live_hubs()
            dead = await sources.dead.count()
            minutes = await self._last_hour(now_ms)
            nodes = [view.nodes[name] for name in sorted(view.nodes)]
            queues, waiting = await self._queues(loads)
            running = running_of(nodes)
            shown_running = {name: running[name] for name in [*running][:MOST_RUNNING]}
            await self._add_facts({**shown_running, **waiting})
        return {
            "at": now_ms,
            "hub": {"id": str(self._hub), "version": __version__, "needs_keys": self._needs_keys},
            "hubs": {str(hub.hub): hub_shown(hub) for hub in hubs},
            "nodes": {str(node.node): node_shown(node) for node in nodes},
            "models": models_of({*view.models, *(name.model for name in known)}, view.models, loads),
            "queues": queues,
            "running": shown_running,
            "waiting": waiting,
            "totals": totals_of(nodes, queues.values(), running.values(), dead),
            "history": {"step_s": STEP_S, "points": shown_points(minutes)},
            "words": {reason.value: words.text for reason, words in WORDS.items()},
        }

    async def _last_hour(self, now_ms: int) -> Sequence[Minute]:
        """The minutes of the last hour; they move slowly, and are read every few seconds."""
        if not 0 <= now_ms - self._minutes_read_at < HISTORY_STEP_MS:
            self._minutes, self._minutes_read_at = await self._from.history.read(now_ms), now_ms
        return self._minutes

    async def _queues(self, loads: dict[LaneName, LaneLoad]) -> tuple[dict[str, Shown], dict[str, Shown]]:
        """Every lane, and the first of those that wait. RequestBook knows these by an index, which is but a hint."""
        heads = await self._from.book.heads([name for name, load in loads.items() if load.waiting], MOST_WAITING)
        queues: dict[str, Shown] = {}
        waiting: dict[str, Shown] = {}
        for name, load in loads.items():
            queues[str(name)] = {"model": name.model, "lane": name.lane.value, **load._asdict()}
            head = [one for one in heads.get(name, ()) if is_request_id(one.request)]
            if head:
                queues[str(name)]["oldest_at"] = head[0].published_at
            for place, one in enumerate(head[: load.waiting], 1):
                if len(waiting) < MOST_WAITING:
                    shown = {"model": name.model, "lane": name.lane.value, "place": place}
                    waiting[one.request] = {**shown, "queued_at": one.published_at}
        return queues, waiting

    async def _add_facts(self, shown: dict[str, Shown]) -> None:
        """Add what the requests' own entries say of their key and their beginning."""
        unknown = [RequestId(name) for name in shown if name not in self._facts]
        told = await self._from.book.read_fields(unknown, ("key", "queued_at")) if unknown else {}
        kept = {request: facts for request, facts in self._facts.items() if request in shown}
        self._facts = kept | {request: _facts(fields) for request, fields in told.items()}
        for name, one in shown.items():
            one.update(self._facts.get(RequestId(name), {}))


def _facts(fields: dict[str, str]) -> Shown:
    facts: Shown = {"key": fields["key"]} if fields.get("key") else {}
    at = number_of(fields.get("queued_at"))
    return facts if at is None else facts | {"queued_at": at}
