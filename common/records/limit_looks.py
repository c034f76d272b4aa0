"""Looks at the books on a client key's limits without writing in them: for people who ask why a request waits."""

from dataclasses import dataclass
from typing import Any

from common.broker.broker import Broker
from common.broker.errors import broker_errors
from common.records.credentials import ClientKey
from common.types import RequestId

MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class KeyStanding:
    """How a key stands. `requests_left`, `tokens_left`: of its minute; None: not limited."""

    turns: int
    """Its requests that are published or running."""
    waiting: int
    """Those that wait for their turn."""
    requests_left: int | None
    tokens_left: int | None


class LimitLooks:
    """What the books say now. Raises BrokerUnavailable or BrokerRefused from every method."""

    def __init__(self, broker: Broker) -> None:
        self._commands = broker.commands
        self._keys = broker.keys

    async def key(self, key: ClientKey, now_ms: int) -> KeyStanding:
        """How a key stands; `now_ms` on the broker's clock."""
        pipe = self._commands.pipeline(transaction=False)
        pipe.zcard(self._keys.limit(key.id, "turns"))
        pipe.zcard(self._keys.limit(key.id, "waiting"))
        pipe.hmget(self._keys.limit(key.id, "bucket"), ["requests", "tokens", "at"])
        with broker_errors():
            turns, waiting, (requests, tokens, at) = await pipe.execute()
        passed_ms = max(0, now_ms - int(float(at))) if at else 0
        return KeyStanding(turns, waiting, _left(key.rpm, requests, passed_ms), _left(key.tpm, tokens, passed_ms))

    async def ahead(self, key: ClientKey, request: RequestId) -> int | None:
        """How many requests of its key have their turn before this one; None: it does not wait for a turn."""
        with broker_errors():
            rank: Any = await self._commands.zrank(self._keys.limit(key.id, "waiting"), request)
        return None if rank is None else int(rank)


def _left(limit: int | None, level: bytes | None, passed_ms: int) -> int | None:
    """What of a minute's allowance is there again: it comes back evenly (as `common/lua/keep_turns.lua` gives it)."""
    if limit is None:
        return None
    return int(min(limit, (limit if level is None else float(level)) + passed_ms * limit / MINUTE_MS))
