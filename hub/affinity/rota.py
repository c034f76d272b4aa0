"""Names one idle node after the other where very many wait for the same jobs.

When a job comes to a lane the broker runs the read of every node that is blocked on it once more, and all but one go
to sleep again: a thousand idle nodes held it for milliseconds. A job in a node's own lane wakes that node alone.
"""

import random
import time
from collections.abc import Callable, Sequence

from common.grid_records import NodeRecord
from common.types import ModelId, NodeId
from hub.affinity.free_slots import FreeSlots

CROWD = 16
"""Where fewer nodes serve a model it costs the broker little to wake them all, and who waited longest is served."""
LOOKED_AT = 8
"""So many are looked at for the one with the largest part of its slots free."""
LATE_S = 10.0
"""So long a node is passed over that let a job lie."""


class Rota:
    """Whose turn it is, for each model; `now` gives seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._next: dict[ModelId, int] = {}
        self._late: dict[NodeId, float] = {}

    def late(self, node: NodeId) -> None:
        """A node did not take a job in time that was meant for it."""
        now = self._now()
        self._late = {one: until for one, until in self._late.items() if until > now} | {node: now + LATE_S}

    def choose(self, model: ModelId, nodes: Sequence[NodeRecord], slots: FreeSlots) -> NodeRecord | None:
        """The next of these nodes that has room, which stand in the same order each time; None if none is seen soon."""
        if len(nodes) < CROWD:
            return None
        first = self._next.get(model)
        if first is None:  # hubs begin at different nodes
            first = random.randrange(len(nodes))  # noqa: S311 - spread, not a secret
        best, most, at = None, 0.0, LOOKED_AT - 1
        for step in range(LOOKED_AT):
            node = nodes[(first + step) % len(nodes)]
            share = slots.of(node) / node.slots if node.near and node.slots and not self._is_late(node.node) else 0.0
            if share > most:
                best, most, at = node, share, step
            if most == 1:
                break
        self._next[model] = (first + at + 1) % len(nodes)
        return best

    def _is_late(self, node: NodeId) -> bool:
        return self._late.get(node, 0.0) > self._now()
