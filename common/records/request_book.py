"""Reads the requests of a grid, whichever hub they belong to, without a SCAN."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from common.broker.broker import Broker
from common.broker.errors import broker_errors
from common.broker.shapes import Fields, hashes_of
from common.streams.jobs import LaneName
from common.types import HubId, RequestId

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


def is_request_id(text: str) -> bool:
    """Whether a text can be a request's id."""
    return _ID.fullmatch(text) is not None


def number_of(text: str | None) -> int | None:
    """A number as a request's hash holds it; None for anything else."""
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


class Waiter(NamedTuple):
    """A request that waits in a lane, and since when its job lies there, Unix ms."""

    request: RequestId
    published_at: int


class RequestBook:
    """The hashes of requests, and who waits. Raises BrokerUnavailable or BrokerRefused from every method."""

    def __init__(self, broker: Broker) -> None:
        self._commands = broker.commands
        self._line = broker.line
        self._keys = broker.keys

    async def read(self, requests: Sequence[RequestId]) -> dict[RequestId, Mapping[str, str]]:
        """The fields of those that the broker still knows."""
        with broker_errors():
            hashes = await hashes_of(self._line, [self._keys.request(request) for request in requests])
        return {request: _texts(raw) for request, raw in zip(requests, hashes, strict=True) if raw}

    async def read_fields(
        self, requests: Sequence[RequestId], fields: Sequence[str]
    ) -> dict[RequestId, dict[str, str]]:
        """Some fields of each request; what is missing is left out."""
        pipe = self._commands.pipeline(transaction=False)
        for request in requests:
            pipe.hmget(self._keys.request(request), [*fields])
        with broker_errors():
            answers = await pipe.execute()
        return {
            request: {
                name: value.decode(errors="replace")
                for name, value in zip(fields, values, strict=True)
                if value is not None
            }
            for request, values in zip(requests, answers, strict=True)
        }

    async def heads(self, lanes: Sequence[LaneName], most: int) -> dict[LaneName, list[Waiter]]:
        """The first requests that wait in each of these lanes, as the index has them: a hint."""
        pipe = self._commands.pipeline(transaction=False)
        for lane in lanes:
            pipe.zrange(self._keys.waiting(*lane), 0, most - 1, withscores=True)
        with broker_errors():
            found = await pipe.execute()
        return {
            lane: [Waiter(RequestId(name.decode(errors="replace")), int(score) // 1000) for name, score in one]
            for lane, one in zip(lanes, found, strict=True)
        }

    async def is_looked_after(self, request: RequestId, hub: HubId) -> bool:
        """Whether a hub's list of what it looks after names a request."""
        looking: Any = self._commands.sismember(self._keys.open_requests(hub), request)
        with broker_errors():
            return bool(await looking)

    async def waiting(self, lanes: Sequence[LaneName], most: int) -> list[RequestId]:
        """Requests that wait in these lanes, at most so many of each, the first in each lane first."""
        heads = await self.heads(lanes, most)
        return [one.request for head in heads.values() for one in head]


def _texts(raw: Fields) -> dict[str, str]:
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, value in raw.items()}
