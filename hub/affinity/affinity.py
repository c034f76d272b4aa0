"""Chooses the node that a job is set aside for, if one would do it sooner than others, and sees what came of it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from common.records.grid import NodeRecord
from common.signing import SigningKeys
from common.streams.requests import SetAside
from common.types import KeyId, Lane, ModelId, NodeId, RequestId
from common.wire import Job
from hub.affinity.free_slots import FreeSlots
from hub.affinity.memory import Memory
from hub.affinity.opening import Opening, opening_of
from hub.affinity.rota import Rota
from hub.figures.tally import Tally
from hub.grid.registry_view import RegistryView
from hub.settings import HubSettings

LOOKED_AT = 8
"""So many nodes of each kind are looked at for a free slot."""
MOST_SORTED = 1000


class Kind(StrEnum):
    """Why a node is near."""

    PREFIX = "prefix"
    """It has served how this conversation begins."""
    WARM = "warm"
    """It has the model loaded, and others that are free don't."""
    TURN = "turn"
    """It is its turn among very many that are all the same."""


class Outcome(StrEnum):
    """What came of it."""

    HIT = "hit"
    """The node took the job."""
    MOVED = "moved"
    """It did not in time."""
    MISSED = "missed"
    """It has no free slot or is gone, or others wait whom the job would overtake."""


@dataclass(frozen=True, slots=True)
class ModelNodes:
    """The nodes that serve a model."""

    edition: int
    """Of which picture of the grid."""
    warm: Sequence[NodeRecord]
    """Those that have it loaded, and read lanes of their own."""
    cold: Sequence[NodeRecord]
    """Those that have not loaded it."""
    all: Sequence[NodeRecord]
    """By name."""
    differ: bool
    """Whether there is a choice, and somebody who can be chosen."""

    @classmethod
    def sort(cls, nodes: Sequence[NodeRecord], model: ModelId, edition: int) -> "ModelNodes":
        """Sort them out."""
        warm = [node for node in nodes if node.near and model in node.loaded]
        cold = [node for node in nodes if model not in node.loaded]
        return cls(edition, warm, cold, nodes, len(nodes) > 1 and any(node.near for node in nodes))


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
        self._rota = Rota()
        self._openings: dict[RequestId, Opening] = {}
        self._sorted: dict[ModelId, ModelNodes] = {}

    async def run(self) -> None:
        """Tell the other hubs who has served what, until cancelled."""
        await self._memory.run()

    async def choose(self, job: Job, lane: Lane, key: KeyId | None) -> Near | None:
        """The node that a job is to be set aside for; None where it makes no difference who takes it.

        Only in the interactive lane: the others' order is kept as it is.
        """
        nodes = self._nodes_of(job.model)
        if not self._is_on or lane is not Lane.INTERACTIVE or not nodes.differ:
            return None
        opening = opening_of(job, key, self._signing, self._min_bytes)
        if opening is not None:
            self._openings[job.id] = opening
            served = await self._memory.find(opening)
            if served is not None:
                record = self._view.nodes.get(served)
                room = self._slots.of(record) if record is not None and record.near else 0
                if room > 0:
                    return Near(served, Kind.PREFIX, room)
                self.came_of(Kind.PREFIX, Outcome.MISSED)
        return choose_warm(nodes, self._slots) or self._choose_by_turn(job.model, nodes.all)

    def _choose_by_turn(self, model: ModelId, nodes: Sequence[NodeRecord]) -> Near | None:
        chosen = self._rota.choose(model, nodes, self._slots)
        return None if chosen is None else Near(chosen.node, Kind.TURN, self._slots.of(chosen))

    def _nodes_of(self, model: ModelId) -> "ModelNodes":
        """Those of the hub's newest picture, sorted out once for each picture: there may be a thousand."""
        known = self._sorted.get(model)
        if known is None or known.edition != self._view.edition:
            if len(self._sorted) > MOST_SORTED:
                self._sorted.clear()
            known = self._sorted[model] = ModelNodes.sort(self._view.models.get(model, ()), model, self._view.edition)
        return known

    def came_of(self, kind: Kind, outcome: Outcome) -> None:
        """Count what came of a choice."""
        self._tally.near(kind.value, outcome.value)

    def late(self, node: NodeId) -> None:
        """A node let a job lie that was meant for it."""
        self._rota.late(node)

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


def choose_warm(nodes: ModelNodes, slots: FreeSlots) -> Near | None:
    """Of the free nodes that have the model loaded that with the most free slots, where free ones have not.

    Some are looked at, not all: nobody is to wait for a look at a thousand nodes.
    """
    if not nodes.warm or not any(slots.of(node) for node in _some(nodes.cold)):
        return None
    chosen = max(_some(nodes.warm), key=slots.of)
    room = slots.of(chosen)
    return Near(chosen.node, Kind.WARM, room) if room else None


def _some(nodes: Sequence[NodeRecord]) -> Sequence[NodeRecord]:
    """A few, in any order."""
    return random.sample(nodes, min(LOOKED_AT, len(nodes)))
