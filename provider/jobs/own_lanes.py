"""The lanes that this node takes jobs from, as far as the broker lets it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import structlog

from common.errors import BrokerDenied, BrokerError
from common.streams.jobs import Delivery, JobLanes, LaneName, lanes_of
from common.types import ModelId, NodeId
from provider.membership.access import Access

log = structlog.get_logger()

JUST_S = 0.05


class OwnLanes:
    """Takes what waits there, most urgent lane first, and finds what was delivered to this node before."""

    def __init__(self, node: NodeId, lanes: JobLanes, access: Access) -> None:
        self._node = node
        self._lanes = lanes
        self.access = access
        self._denied: frozenset[ModelId] = frozenset()
        self._is_near_denied = False
        self._is_refused = False
        self._has_looked_back = False
        self._waited: tuple[Sequence[LaneName], float] = ([], 0.0)
        """For which lanes a wait ended with nothing, and when."""

    @property
    def near(self) -> LaneName | None:
        """The node's own lane, if it is read."""
        return None if self._is_near_denied else self.access.near

    @property
    def models(self) -> set[ModelId]:
        """Those whose lanes are there and may be read."""
        return {*self.access.models} - self._denied

    @property
    def may_hold_former(self) -> bool:
        """Whether jobs that were delivered to this node may lie anywhere."""
        return bool(self.access.models) or not self._has_looked_back

    async def next(self, models: Sequence[ModelId], free: int) -> list[Delivery]:
        """What waits for these models, up to so many in the order of urgency, or the first that comes.

        Where there are slots for as many of each lane the order is of no matter, and one read does.
        """
        lanes = self._in_order(models)
        if free >= len(lanes):
            return await self._lanes.wait(self._node, lanes, count=free // len(lanes))
        if not self._has_just_waited(lanes):
            found = await self._lanes.claim(self._node, lanes, free)
            if found:
                return found
        found = await self._lanes.wait(self._node, lanes)
        self._waited = ([], 0.0) if found else (lanes, asyncio.get_running_loop().time())
        return found

    async def former(self) -> AsyncIterator[Delivery]:
        """What was delivered to this node and is not settled.

        Of every model that it may, not only those that the engine has now: it may have lost one since. Once also of
        those that the engine lost while no process of this name ran.
        """
        found = [*lanes_of(self.models), *([] if self.near is None else [self.near])]
        if not self._has_looked_back and not self.access.is_member:  # a registered node may read no other lanes
            self._has_looked_back = True
            with suppress(BrokerDenied):
                found += await self._lanes.known() - {*found}
        async for delivery in self._lanes.delivered(self._node, found):
            yield delivery

    def learn_from(self, error: BrokerError) -> None:
        """A command on them went wrong: one that was refused may have been for a lane that may not be read."""
        self._is_refused |= isinstance(error, BrokerDenied)

    async def look_what_is_denied(self) -> None:
        """A claim is refused as a whole for one lane that may not be read: leave that model out, and serve the rest.

        So it is where the broker's operator makes the users, and has not heard of a new model yet.
        """
        near = [] if self.access.near is None else [self.access.near]
        asked = [*lanes_of(self.access.models), *near]
        denied = await self._lanes.denied(self._node, asked) if self._is_refused else set()
        self._is_near_denied = not denied.isdisjoint(near)
        found = frozenset(lane.model for lane in denied.difference(near))
        if found != self._denied:
            log.warning(
                "models_denied", models=sorted(found), hint="the broker does not let this node read their lanes"
            )
        self._denied = found
        self._is_refused = bool(denied)

    def _in_order(self, models: Sequence[ModelId]) -> list[LaneName]:
        """The lanes of these models, most urgent first; the node's own goes before those that it takes from."""
        lanes, near = lanes_of(models), self.near
        if lanes and near is not None:
            lanes.insert(lanes.index(LaneName(near.lane, models[0])), near)
        return lanes

    def _has_just_waited(self, lanes: Sequence[LaneName]) -> bool:
        """Whether a wait for these lanes ended a moment ago with nothing: nothing lies there then, but by chance.

        An idle node asks the broker one command for that, where a claim is one more for every lane.
        """
        waited_for, until = self._waited
        return waited_for == lanes and asyncio.get_running_loop().time() - until < JUST_S
