"""Which nodes' entries have changed: a stream of hints, so that hubs need not read all entries to find out.

Whoever writes an entry tells afterwards. A hint that is lost, trimmed or untrue costs a look at an entry, or one that
comes later: at the latest when the lease that a hub knows of has run out.
"""

from common.broker.broker import Broker
from common.broker.errors import broker_errors
from common.broker.shapes import entries_of
from common.types import NodeId

MAXLEN = 4096
HINTS_PER_READ = 1000
READS_AT_ONCE = 8
"""What more was told at once is heard the next time."""
REACH_MS = 2000
"""So far back a hub begins that has heard nothing yet, or whose broker forgot what it had told."""
AHEAD_MS = 60_000
"""An id so far in the future is none that the broker gave: somebody means to use them up."""


class Changes:
    """Both ends of the stream. Raises BrokerUnavailable, BrokerDenied or BrokerRefused."""

    def __init__(self, broker: Broker) -> None:
        self._line = broker.line
        self._key = broker.keys.changes
        self._heard: bytes | None = None

    async def tell(self, node: NodeId) -> None:
        """This node's entry has changed, and stands in the broker as it is now."""
        with broker_errors():
            await self._line.say("XADD", self._key, "MAXLEN", "~", MAXLEN, "*", "node", node)

    def hear_again(self) -> None:
        """Hear what was told lately once more: the broker may have another clock now, and lower ids with it."""
        self._heard = None

    async def news(self, now_ms: int) -> set[NodeId]:
        """Who has changed since the last time. `now_ms`: on the broker's clock."""
        told: set[NodeId] = set()
        for _ in range(READS_AT_ONCE):
            after = self._heard or f"{max(0, now_ms - REACH_MS)}".encode()
            with broker_errors():
                answer = await self._line.say("XREAD", "COUNT", HINTS_PER_READ, "STREAMS", self._key, after)
                found = [entry for _, entries in entries_of(answer) for entry in entries]
                told.update(NodeId((fields or {}).get(b"node", b"").decode(errors="replace")) for _, fields in found)
                if not found:
                    break
                self._heard = found[-1][0]
                if int(self._heard.partition(b"-")[0]) > now_ms + AHEAD_MS:  # nobody could add behind the highest id
                    await self._line.say("DEL", self._key)
                    self._heard = None
                    break
            if len(found) < HINTS_PER_READ:
                break
        return told
