"""How many slots of a node are free, as far as a hub knows: what the node last said, and what happened here since."""

import time
from collections import OrderedDict
from collections.abc import Callable

from common.records.grid import NodeRecord
from common.types import NodeId, NodeState, RequestId

SAID_LATE_S = 10.0
"""So long a node's entry may name a request that this hub knows to be over."""
MOST_OVER = 20_000


class FreeSlots:
    """Counts the requests of this hub by where they are."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._at: dict[RequestId, NodeId] = {}
        self._of: dict[NodeId, set[RequestId]] = {}
        self._over: OrderedDict[RequestId, float] = OrderedDict()

    def take(self, request: RequestId, node: NodeId) -> None:
        """A request runs there, or is on its way there."""
        self.leave(request)
        self._at[request] = node
        self._of.setdefault(node, set()).add(request)

    def leave(self, request: RequestId) -> None:
        """It is nowhere now."""
        node = self._at.pop(request, None)
        if node is not None:
            self._of[node].discard(request)
            if not self._of[node]:
                del self._of[node]

    def end(self, request: RequestId) -> None:
        """It is over, whatever its node's entry still says."""
        if request in self._at:
            self.leave(request)
            self._over[request] = self._now()
            if len(self._over) > MOST_OVER:
                self._over.popitem(last=False)

    def of(self, node: NodeRecord) -> int:
        """How many are free; none where it takes no work."""
        if node.reasons or node.state not in (NodeState.IDLE, NodeState.BUSY):
            return 0
        if node.state is NodeState.BUSY and len(node.requests) < node.slots:
            return 0  # others use its engine
        late = self._now() - SAID_LATE_S
        said = {request for request in node.requests if self._over.get(request, float("-inf")) < late}
        return max(0, node.slots - len(said | self._of.get(node.node, set())))
