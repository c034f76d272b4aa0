"""Chooses the node that a job is set aside for, if one would do it sooner than others, and sees what came of it."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from common.grid_records import NodeRecord
from common.signing import SigningKeys
from common.streams.requests import SetAside
from common.types import KeyId, Lane, ModelId, NodeId, RequestId
from common.wire import Job
from hub.affinity.free_slots import FreeSlots
from hub.affinity.memory import Memory
from hub.affinity.opening import Opening, opening_of
from hub.figures.tally import Tally
from hub.grid.registry_view import RegistryView
from hub.settings import HubSettings


class Kind(StrEnum):
    """Why a node is near."""

    PREFIX = "prefix"
    """It has served how this conversation begins."""
    WARM = "warm"
    """It has the model loaded, and others that are free don't."""


class Outcome(StrEnum):
    """What came of it."""

    HIT = "hit"
    """The node took the job."""
    MOVED = "moved"
    """It did not in time."""
    MISSED = "missed"
    """It has no free slot or is gone, or others wait whom the job would overtake."""


@dataclass(frozen=True, slots=True)
class Near:
    """The node that a job is meant for, and why."""

    node: NodeId
    kind: Kind
    room: int
    """How many jobs may wait for it: as many as it has free slots."""

    @property
    def aside(self) -> SetAside:
        """As it is asked of the broker."""
        return SetAside(self.node, self.room)


class Affinity:
    """Looks at the hub's own picture of the grid: no node is asked, and nobody waits for one known to be busy."""

    def __init__(
        self, view: RegistryView, memory: Memory, signing: SigningKeys, tally: Tally, settings: HubSettings
    ) -> None:
        self._view = view
        self._memory = memory
        self._signing = signing
        self._tally = tally
        self._min_bytes = settings.affinity_min_bytes
        self._is_on = settings.affinity_wait_ms > 0
        self._slots = FreeSlots()
        self._openings: dict[RequestId, Opening] = {}

    async def choose(self, job: Job, lane: Lane, key: KeyId | None) -> Near | None:
        """The node that a job is to be set aside for; None where it makes no difference who takes it.

        Only in the interactive lane: the others' order is kept as it is.
        """
        nodes = self._view.models.get(job.model, ())
        if not self._is_on or lane is not Lane.INTERACTIVE or len(nodes) < 2 or not any(node.near for node in nodes):
            return None
        free = {node.node: self._slots.of(node) for node in nodes}
        opening = opening_of(job, key, self._signing, self._min_bytes)
        if opening is not None:
            self._openings[job.id] = opening
            served = await self._memory.find(opening)
            if served is not None:
                if self._reads(served) and free.get(served, 0) > 0:
                    return Near(served, Kind.PREFIX, free[served])
                self.came_of(Kind.PREFIX, Outcome.MISSED)
        return choose_warm([node for node in nodes if free[node.node] > 0], job.model, free)

    def _reads(self, node: NodeId) -> bool:
        record = self._view.nodes.get(node)
        return record is not None and record.near == 1

    def came_of(self, kind: Kind, outcome: Outcome) -> None:
        """Count what came of a choice."""
        self._tally.near(kind.value, outcome.value)

    def at(self, request: RequestId, node: NodeId) -> None:
        """A request is at a node, or on its way there."""
        self._slots.take(request, node)

    def nowhere(self, request: RequestId) -> None:
        """It waits for whoever takes it."""
        self._slots.leave(request)

    def ended(self, request: RequestId, node: NodeId | None) -> None:
        """It is over. `node`: who has read its conversation, if somebody has."""
        opening = self._openings.pop(request, None)
        self._slots.end(request)
        if opening is not None and node is not None:
            self._memory.served(opening, node)


def choose_warm(free: Sequence[NodeRecord], model: ModelId, slots: Mapping[NodeId, int]) -> Near | None:
    """One of the free nodes that have the model loaded, where others have not: that with the most free slots."""
    warm = [node for node in free if model in node.loaded]
    if len(warm) == len(free):
        return None
    there = [node for node in warm if node.near]
    if not there:
        return None
    most = max(slots[node.node] for node in there)
    chosen = random.choice([node for node in there if slots[node.node] == most])  # noqa: S311 - spread, not a secret
    return Near(chosen.node, Kind.WARM, most)
