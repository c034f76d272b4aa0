"""This hub's picture of the grid, renewed all the time, so that no request asks the broker who is there."""

import asyncio
from collections.abc import Iterable

import structlog

from common.broker.clock import BrokerClock
from common.broker.reconnections import CountedReconnections, Reconnections
from common.errors import BrokerError
from common.records.grid import NodeRecord
from common.records.registry import Registry
from common.settings import LEASE_BEATS
from common.streams.changes import Changes
from common.streams.jobs import JobLanes
from common.tasks import wait_or_stop
from common.types import ModelId, NodeId
from hub.grid.live_nodes import LiveNodes
from hub.grid.model_names import ModelNames

log = structlog.get_logger()

REFRESH_S = 1.0
"""At most; with quick heartbeats, twice in each."""
FRESH_S = 3 * REFRESH_S
LATE_S = 2.0
"""How long a request waits for a look that takes its time: it may be this hub that is slow, and not the broker."""
SETTLE_S = 3.0
"""After the broker was away, nodes that live need so long to stand in the registry again; at least two heartbeats."""
MIN_REFRESH_GAP_S = 0.2
"""Least time between two refreshes that unknown models can provoke."""
HANG_S = 1.0
"""A broker that takes so long to answer, s, at least a heartbeat, has made nodes miss theirs."""
LANES_S = 10.0
"""Between two looks at the lanes, for models that no node serves."""
MOST_REMEMBERED = 20_000
"""So many models are known at most beyond those that are served or have a lane: providers can invent names."""


class RegistryView:
    """Live nodes, the models they serve, and the models that were ever served.

    Each second it looks for what may have changed, so that a grid at rest costs little however large it is.
    """

    def __init__(
        self,
        registry: Registry,
        changes: Changes,
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
        self._answered_at = float("-inf")
        self._has_failed = False
        self._look_ended = asyncio.Event()
        """Of the look that is under way, or of the next one."""
        self._refreshing = asyncio.Lock()
        self.has_looked = asyncio.Event()
        """Set once it was tried to take the first picture."""
        self._live = LiveNodes(registry, changes, int(heartbeat_s * LEASE_BEATS * 1000))
        self._shown_changes = 0
        self.edition = 0
        """Rises with each picture that differs from the one before."""
        self._all_seen_at = float("-inf")
        self._lanes_seen_at = float("-inf")
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
    def is_answered(self) -> bool:
        """Whether the broker answers, as far as the last look tells; how long that took is left out of account."""
        return asyncio.get_running_loop().time() - self._answered_at < FRESH_S

    async def hears(self) -> bool:
        """Whether the broker answers; where a look is late and the last one did not fail, as far as its end tells."""
        if not (self.is_answered or self._has_failed):
            await wait_or_stop(self._look_ended, LATE_S)
        return self.is_answered

    @property
    def is_settled(self) -> bool:
        """Whether it is fresh, and the broker has been there long enough for every live node to stand in it."""
        return self.is_fresh and asyncio.get_running_loop().time() - self._shaken_at > self._settle_s

    @property
    def taken_at(self) -> float:
        """When the picture was taken, on the event loop's clock."""
        return self._refreshed_at

    def heard_at_ms(self, node: NodeId) -> int:
        """The last heartbeat of a node that was seen, Unix ms; 0 of one that is not there."""
        return self._live.heard_at_ms.get(node, 0)

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
                self._lanes_seen_at = float("-inf")
                await self._refresh()
        return self._found(asked)

    async def refresh(self) -> None:
        """Take the picture anew, as far as it may have changed; BrokerError if that fails, and the old one stays.

        How busy GPUs are, how far requests are and when nodes were heard last is seen now and then only: see `renew`.
        """
        async with self._refreshing:
            await self._refresh()

    def doubt(self, node: NodeId) -> None:
        """Have the next look read this node's entry, whatever is known of it."""
        self._live.doubt(node)

    async def renew(self) -> None:
        """See to it that all that nodes say of themselves is as new as a picture may be; BrokerError as `refresh`."""
        async with self._refreshing:
            if asyncio.get_running_loop().time() - self._all_seen_at >= self._refresh_s:
                await self._refresh(at_all=True)

    async def _refresh(self, *, at_all: bool = False) -> None:
        try:
            await self._look(at_all=at_all)
        except BrokerError:
            self._has_failed = True
            raise
        else:
            self._has_failed, self._answered_at = False, asyncio.get_running_loop().time()
        finally:
            self._look_ended.set()
            self._look_ended = asyncio.Event()

    async def _look(self, *, at_all: bool) -> None:
        began_at = asyncio.get_running_loop().time()
        await self._clock.keep()
        revoked = await self._registry.revoked()
        if self._reconnections.count != self._seen_reconnections:
            self._live.hear_again()
        at_all = at_all or not self._is_steady(began_at)  # what was lost of the registry comes back without a word
        await self._live.look(self._clock.now_ms(), at_all=at_all)
        if began_at - self._lanes_seen_at >= LANES_S:
            self._remember(lane.model for lane in await self._lanes.known())
            self._lanes_seen_at = began_at
        if self._live.changes != self._shown_changes or revoked != self.revoked:
            self._show(revoked)
        now = asyncio.get_running_loop().time()
        if self._reconnections.count != self._seen_reconnections or now - began_at > self._hang_s:
            self._seen_reconnections = self._reconnections.count
            self._shaken_at = now
        if at_all:
            self._all_seen_at = began_at
        self._refreshed_at = began_at

    def _is_steady(self, now: float) -> bool:
        return self._reconnections.count == self._seen_reconnections and now - self._shaken_at > self._settle_s

    def _show(self, revoked: frozenset[NodeId]) -> None:
        records, self._shown_changes = self._live.records, self._live.changes
        self.edition += 1
        models: dict[ModelId, list[NodeRecord]] = {}
        nodes = {node: records[node] for node in sorted(records) if node not in revoked}
        for node in nodes.values():
            for model in node.models:
                models.setdefault(model, []).append(node)
        self.revoked, self.nodes, self.models = revoked, nodes, models
        self._remember(models)

    def _remember(self, models: Iterable[ModelId]) -> None:
        there = frozenset(models)
        known = self.known | there  # a broker that came back empty forgets them
        self.known = known if len(known) <= len(there) + MOST_REMEMBERED else there

    def _found(self, asked: ModelId) -> ModelId | None:
        return self.names.find(asked, self.models, self.known)

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            try:
                await self.refresh()
            except BrokerError as exc:
                self._shaken_at = asyncio.get_running_loop().time()
                log.warning("broker_unavailable", doing="registry", error=str(exc))
            self.has_looked.set()
            await asyncio.sleep(self._refresh_s)
