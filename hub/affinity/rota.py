"""Names one idle node after the other where very many wait for the same jobs.

When a job comes to a lane the broker runs the read of every node that is blocked on it once more, and all but one go
to sleep again: a thousand idle nodes held it for milliseconds. A job in a node's own lane wakes that node alone.
"""

import random
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice

from common.records.grid import NodeRecord
from common.types import ModelId, NodeId
from hub.affinity.free_slots import FreeSlots

CROWD = 16
"""Where fewer nodes serve a model it costs the broker little to wake them all, and who waited longest is served."""
LOOKED_AT = 8
"""So many that have room are looked at for the one with the most."""
LOOKED_AT_MOST = 32
"""So many in all: a look takes some 30 µs."""
MOST_QUEUES = 1000
LATE_S = 10.0
"""So long a node is passed over that let a job lie."""


class Rota:
    """Whose turn it is, for each model; `now` gives seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._late: dict[NodeId, float] = {}
        self._queues: dict[ModelId, _Queue] = {}

    def late(self, node: NodeId) -> None:
        """A node did not take a job in time that was meant for it."""
        now = self._now()
        self._late = {one: until for one, until in self._late.items() if until > now} | {node: now + LATE_S}

    def choose(self, model: ModelId, nodes: Sequence[NodeRecord], slots: FreeSlots) -> NodeRecord | None:
        """The one with the most room of those whose turn it is; None of few, or where none with room is seen soon.

        Who is passed over for one with more room keeps its place; who has no room loses it.
        """
        if len(nodes) < CROWD:
            return None
        if len(self._queues) > MOST_QUEUES:
            self._queues.clear()
        queue = self._queues.setdefault(model, _Queue())
        queue.keep(nodes)
        best, most, seen = None, 0.0, 0
        for node in queue.first(LOOKED_AT_MOST):
            share = slots.of(node) / node.slots if node.near and node.slots and not self._is_late(node.node) else 0.0
            if not share:
                queue.pass_over(node)
                continue
            seen += 1
            if share > most:
                best, most = node, share
            if most == 1 or seen == LOOKED_AT:
                break
        if best is not None:
            queue.pass_over(best)
        return best

    def _is_late(self, node: NodeId) -> bool:
        return self._late.get(node, 0.0) > self._now()


class _Queue:
    """Nodes in the order in which it is their turn."""

    def __init__(self) -> None:
        self._nodes: Sequence[NodeRecord] = ()
        self._order: OrderedDict[NodeId, NodeRecord] = OrderedDict()

    def keep(self, nodes: Sequence[NodeRecord]) -> None:
        """Take over a newer picture of them, once; hubs begin with different ones."""
        if nodes is self._nodes:
            return
        newest = {node.node: node for node in nodes}
        came = [node for name, node in newest.items() if name not in self._order]
        random.shuffle(came)
        there = [(name, newest[name]) for name in self._order if name in newest]
        self._nodes, self._order = nodes, OrderedDict([*there, *((node.node, node) for node in came)])

    def first(self, count: int) -> list[NodeRecord]:
        """So many of the next."""
        return list(islice(self._order.values(), count))

    def pass_over(self, node: NodeRecord) -> None:
        """It is the last now."""
        self._order.move_to_end(node.node)
