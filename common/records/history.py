"""What the grid did in each minute of the last hour: sums that all hubs add to, small enough to read in one go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.broker.broker import Broker
from common.broker.errors import broker_errors
from common.broker.shapes import hashes_of

STEP_S = 60
KEPT_STEPS = 60
TTL_MS = (KEPT_STEPS + 5) * STEP_S * 1000
MEASURES = ("requests", "failed", "retried", "prompt_tokens", "completion_tokens")
BUCKET_HEAD = "first_token_ms:"
"""What the fields of the first-token times begin with; the number of their bucket follows."""
FIRST_TOKEN_BOUNDS_MS: tuple[int, ...] = tuple(round(5 * 1.4**n) for n in range(36))
"""Upper ends of the buckets, 5 ms to 11 min in steps of 1.4: a quantile is told to within a fifth."""

Additions = Mapping[str, int]
"""Field -> how much is to be added."""


def minute_of(now_ms: int) -> int:
    """The beginning of the minute that a moment belongs to; both Unix ms."""
    return now_ms - now_ms % (STEP_S * 1000)


def first_token_field(first_token_ms: float) -> str:
    """The field that counts a first-token time."""
    fits = (number for number, bound in enumerate(FIRST_TOKEN_BOUNDS_MS) if first_token_ms <= bound)
    return f"{BUCKET_HEAD}{next(fits, len(FIRST_TOKEN_BOUNDS_MS))}"


@dataclass(frozen=True, slots=True)
class Minute:
    """What ended in one minute, and how often first tokens fell into each bucket."""

    began_at: int
    """Unix ms on the broker's clock."""
    sums: Mapping[str, int]
    """By `MEASURES`; what is missing is 0."""
    first_tokens: Mapping[int, int]


class History:
    """The minutes. Raises BrokerUnavailable or BrokerRefused from every method."""

    def __init__(self, broker: Broker) -> None:
        self._commands = broker.commands
        self._line = broker.line
        self._keys = broker.keys

    async def add(self, additions: Mapping[int, Additions]) -> None:
        """Add to these minutes. Said twice where an answer is lost: the figures are for the eye, not for a bill."""
        pipe = self._commands.pipeline(transaction=False)
        for began_at, amounts in additions.items():
            key = self._keys.history(began_at)
            for field, amount in amounts.items():
                pipe.hincrby(key, field, amount)
            pipe.pexpire(key, TTL_MS)
        with broker_errors():
            await pipe.execute()

    async def read(self, now_ms: int) -> Sequence[Minute]:
        """The last hour's minutes, the first one first; those without anything are left out."""
        last = minute_of(now_ms)
        minutes = [last - step * STEP_S * 1000 for step in reversed(range(KEPT_STEPS))]
        with broker_errors():
            hashes = await hashes_of(self._line, [self._keys.history(began_at) for began_at in minutes])
        return [_minute(began_at, raw) for began_at, raw in zip(minutes, hashes, strict=True) if raw]


def _minute(began_at: int, raw: Mapping[Any, Any]) -> Minute:
    fields = {name.decode(errors="replace"): int(value) for name, value in raw.items()}
    buckets = {
        int(name.removeprefix(BUCKET_HEAD)): count for name, count in fields.items() if name.startswith(BUCKET_HEAD)
    }
    return Minute(began_at, {name: fields.get(name, 0) for name in MEASURES}, buckets)
