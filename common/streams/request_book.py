"""Reads the requests of a grid, whichever hub they belong to, without a SCAN."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from common.broker import Broker, broker_errors
from common.streams.jobs import LaneName
from common.types import HubId, RequestId


class RequestBook:
    """The hashes of requests, and who waits. Raises BrokerUnavailable or BrokerRefused from every method."""

    def __init__(self, broker: Broker) -> None:
        self._commands = broker.commands
        self._keys = broker.keys

    async def read(self, requests: Sequence[RequestId]) -> dict[RequestId, Mapping[str, str]]:
        """The fields of those that the broker still knows."""
        pipe = self._commands.pipeline(transaction=False)
        for request in requests:
            pipe.hgetall(self._keys.request(request))
        with broker_errors():
            hashes = await pipe.execute() if requests else []
        return {request: _texts(raw) for request, raw in zip(requests, hashes, strict=True) if raw}

    async def is_looked_after(self, request: RequestId, hub: HubId) -> bool:
        """Whether a hub's list of what it looks after names a request."""
        looking: Any = self._commands.sismember(self._keys.open_requests(hub), request)
        with broker_errors():
            return bool(await looking)

    async def waiting(self, lanes: Iterable[LaneName], most: int) -> list[RequestId]:
        """Requests that wait in these lanes, at most so many of each, the first in each lane first."""
        pipe = self._commands.pipeline(transaction=False)
        for lane in lanes:
            pipe.zrange(self._keys.waiting(*lane), 0, most - 1)
        with broker_errors():
            found = await pipe.execute()
        return [RequestId(one.decode(errors="replace")) for lane in found for one in lane]


def _texts(raw: Mapping[Any, Any]) -> dict[str, str]:
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, value in raw.items()}
