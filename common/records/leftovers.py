"""What hubs that died left behind: the requests that they looked after."""

from collections.abc import Sequence
from typing import Any

from common.broker.broker import Broker
from common.broker.errors import broker_errors
from common.records.registry import FORGET_NODE_MS
from common.types import HubId, RequestId


class Leftovers:
    """The open requests of hubs, and who takes them over. Raises BrokerUnavailable or BrokerRefused from every method.

    No locks: of several hubs that take one request, the broker lets one have it.
    """

    def __init__(self, broker: Broker) -> None:
        self._commands = broker.commands
        self._keys = broker.keys

    async def dead_hubs(self) -> list[HubId]:
        """Hubs that the index names and that have not been heard for their lease, in name order."""
        with broker_errors():
            names: Any = await self._commands.zrange(self._keys.hubs, 0, -1)
            hubs = sorted(HubId(name.decode(errors="replace")) for name in names)
            pipe = self._commands.pipeline(transaction=False)
            for hub in hubs:
                pipe.exists(self._keys.hub(hub))
            are_there = await pipe.execute()
        return [hub for hub, is_there in zip(hubs, are_there, strict=True) if not is_there]

    async def open_of(self, hub: HubId, most: int | None = None) -> list[RequestId]:
        """Requests that a hub looks after: all, or at most so many, picked at random so that hubs seldom compete."""
        key = self._keys.open_requests(hub)
        looking: Any = self._commands.smembers(key) if most is None else self._commands.srandmember(key, most)
        with broker_errors():
            found = await looking
        return [RequestId(one.decode(errors="replace")) for one in found]

    async def take(self, requests: Sequence[RequestId], source: HubId, taker: HubId) -> list[RequestId]:
        """Take these over from a hub; those that this call got. Others may have been faster with the rest."""
        pipe = self._commands.pipeline(transaction=False)
        for request in requests:
            pipe.smove(self._keys.open_requests(source), self._keys.open_requests(taker), request)
        with broker_errors():
            moved = await pipe.execute()
        return [request for request, is_ours in zip(requests, moved, strict=True) if is_ours]

    async def forget(self, hub: HubId, now_ms: int) -> bool:
        """Take a dead hub that has left nothing out of the index; whether it was time for that.

        Not before it has been silent for a while: one that was only stopped may come back with requests.
        """
        with broker_errors():
            heard_at: Any = await self._commands.zscore(self._keys.hubs, hub)
            if heard_at is None or heard_at > now_ms - FORGET_NODE_MS:
                return False
            if await self._commands.exists(self._keys.open_requests(hub)):
                return False
            return bool(await self._commands.zrem(self._keys.hubs, hub))
