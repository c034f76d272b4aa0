"""This hub's picture of the grid, renewed all the time, so that no request asks the broker who is there."""

import asyncio

import structlog

from common.clock import BrokerClock
from common.errors import BrokerError
from common.grid_records import NodeRecord
from common.reconnections import CountedReconnections, Reconnections
from common.registry import Registry
from common.streams.jobs import JobLanes
from common.types import ModelId, NodeId
from hub.grid.model_names import ModelNames

log = structlog.get_logger()

REFRESH_S = 1.0
"""At most; with quick heartbeats, twice in each."""
FRESH_S = 3 * REFRESH_S
SETTLE_S = 3.0
"""After the broker was away, nodes that live need so long to stand in the registry again; at least two heartbeats."""
MIN_REFRESH_GAP_S = 0.2
"""Least time between two refreshes that unknown models can provoke."""
HANG_S = 1.0
"""A broker that takes so long to answer, s, at least a heartbeat, has made nodes miss theirs."""
PROBE_S = 60.0
"""How long a node that was seen is looked for where the index has lost it: a broker that came back empty."""
MOST_REMEMBERED = 20_000
"""So many models are known at most beyond those that are served or have a lane: providers can invent names."""


class RegistryView:
    """Live nodes, the models they serve, and the models that were ever served."""

    def __init__(
        self,
        registry: Registry,
        lanes: JobLanes,
        clock: BrokerClock,
        names: ModelNames | None = None,
        *,
        heartbeat_s: float = 2.0,
        reconnections: Reconnections | None = None,
    ) -> None:
        self._registry = registry
        self._lanes = lanes
        self._clock = clock
        self.names = names or ModelNames()
        self._refresh_s = min(REFRESH_S, heartbeat_s / 2)
        self._settle_s = max(SETTLE_S, 2 * heartbeat_s)
        self._hang_s = max(HANG_S, heartbeat_s)
        self._reconnections = reconnections or CountedReconnections()
        self._seen_reconnections = self._reconnections.count
        self._shaken_at = float("-inf")
        self._refreshed_at = float("-inf")
        self._refreshing = asyncio.Lock()
        self.has_looked = asyncio.Event()
        """Set once it was tried to take the first picture."""
        self._seen_at: dict[NodeId, float] = {}
        self.nodes: dict[NodeId, NodeRecord] = {}
        self.revoked: frozenset[NodeId] = frozenset()
        """Nodes that were cut off: no job is theirs any more, whatever they still say."""
        self.models: dict[ModelId, list[NodeRecord]] = {}
        self.known: frozenset[ModelId] = frozenset()

    @property
    def age_s(self) -> float:
        """Seconds since the picture was taken; infinite before the first."""
        return asyncio.get_running_loop().time() - self._refreshed_at

    @property
    def is_fresh(self) -> bool:
        """Whether the picture can be trusted to say that something is not there."""
        return self.age_s < FRESH_S

    @property
    def is_settled(self) -> bool:
        """Whether it is fresh, and the broker has been there long enough for every live node to stand in it."""
        return self.is_fresh and asyncio.get_running_loop().time() - self._shaken_at > self._settle_s

    @property
    def taken_at(self) -> float:
        """When the picture was taken, on the event loop's clock."""
        return self._refreshed_at

    async def find(self, asked: ModelId) -> ModelId | None:
        """The name under which nodes serve, or ever served, the model asked for; looks again before it says None."""
        found = self._found(asked)
        if found is not None:
            return found
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        async with self._refreshing:
            if self._refreshed_at < asked_at:  # else it was taken while this one waited for its turn
                await asyncio.sleep(max(0.0, self._refreshed_at + MIN_REFRESH_GAP_S - asked_at))
                await self.refresh()
        return self._found(asked)

    async def refresh(self) -> None:
        """Take the picture anew; BrokerError if that fails, and the old one stays."""
        began_at = asyncio.get_running_loop().time()
        await self._clock.keep()
        revoked = await self._registry.revoked()
        seen = await self._registry.live_nodes(self._clock.now_ms(), self._seen_at)
        nodes = [node for node in seen if node.node not in revoked]
        lanes = await self._lanes.known()
        models: dict[ModelId, list[NodeRecord]] = {}
        for node in nodes:
            for model in node.models:
                models.setdefault(model, []).append(node)
        recent = {name: seen_at for name, seen_at in self._seen_at.items() if began_at - seen_at < PROBE_S}
        self._seen_at = recent | dict.fromkeys((node.node for node in seen), began_at)
        self.revoked = revoked
        self.nodes = {node.node: node for node in nodes}
        self.models = models
        there = models.keys() | {lane.model for lane in lanes}
        known = self.known | there  # a broker that came back empty forgets them
        self.known = known if len(known) <= len(there) + MOST_REMEMBERED else frozenset(there)
        now = asyncio.get_running_loop().time()
        if self._reconnections.count != self._seen_reconnections or now - began_at > self._hang_s:
            self._seen_reconnections = self._reconnections.count
            self._shaken_at = now
        self._refreshed_at = began_at

    def _found(self, asked: ModelId) -> ModelId | None:
        return self.names.find(asked, self.models, self.known)

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            try:
                async with self._refreshing:
                    await self.refresh()
            except BrokerError as exc:
                self._shaken_at = asyncio.get_running_loop().time()
                log.warning("broker_unavailable", doing="registry", error=str(exc))
            self.has_looked.set()
            await asyncio.sleep(self._refresh_s)
