"""What client keys used: requests and tokens per key, model and UTC day. Kept for ever: it may become a bill."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta

from common.broker.broker import Broker
from common.broker.errors import broker_errors
from common.broker.line import Argument
from common.broker.scripts import Script
from common.broker.shapes import hashes_of
from common.types import HubId, KeyId, ModelId
from common.wire import Usage

_COUNT = Script("count_usage")


@dataclass(slots=True)
class ModelUsage:
    """What was used of one model."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: int = 0
    """Requests whose tokens no engine told, so that events were counted."""

    def add(self, usage: Usage | None) -> None:
        """Count one more request; None: nobody knows what it used."""
        self.requests += 1
        if usage is not None:
            self.prompt_tokens += usage.prompt_tokens or 0
            self.completion_tokens += usage.completion_tokens or 0
            self.estimated += usage.is_estimate


_MEASURES = tuple(field.name for field in fields(ModelUsage))

DayOfKey = tuple[KeyId, str]
"""A key and a UTC day, `YYYY-MM-DD`."""


def day_of(now_ms: int) -> str:
    """The UTC day of a moment (Unix ms)."""
    return datetime.fromtimestamp(now_ms / 1000, UTC).date().isoformat()


def days_back(now_ms: int, count: int) -> list[str]:
    """The last so many UTC days, today first."""
    today = datetime.fromtimestamp(now_ms / 1000, UTC).date()
    return [(today - timedelta(days=back)).isoformat() for back in range(count)]


class UsageBooks:
    """The books on what keys used. Raises BrokerUnavailable or BrokerRefused from every method."""

    def __init__(self, broker: Broker) -> None:
        self._line = broker.line
        self._keys = broker.keys

    async def add(self, hub: HubId, number: int, used: Mapping[DayOfKey, Mapping[ModelId, ModelUsage]]) -> None:
        """Add a hub's next portion. Said again with the same number after a lost answer, it counts once.

        Args:
            hub: who counted it.
            number: higher than that of the hub's portion before.
            used: all of the portion.
        """
        commands = [
            _COUNT.command([self._keys.usage(*day_of_key)], [hub, number, *_additions(models)])
            for day_of_key, models in used.items()
        ]
        if not commands:
            return
        with broker_errors():
            for command, answer in zip(commands, await self._line.ask(commands), strict=True):
                await _COUNT.mend(self._line, command, answer)

    async def read(self, key: KeyId, days: Sequence[str]) -> dict[str, dict[ModelId, ModelUsage]]:
        """What a key used on these days, by day and model; a day without use is empty."""
        with broker_errors():
            hashes = await hashes_of(self._line, [self._keys.usage(key, day) for day in days])
        return {day: _by_model(raw) for day, raw in zip(days, hashes, strict=True)}


def _additions(models: Mapping[ModelId, ModelUsage]) -> list[Argument]:
    found: list[Argument] = []
    for model, usage in models.items():
        for measure in _MEASURES:
            if amount := getattr(usage, measure):
                found += [f"{model}:{measure}", amount]
    return found


def _by_model(raw: Mapping[bytes, bytes]) -> dict[ModelId, ModelUsage]:
    models: dict[ModelId, ModelUsage] = {}
    for name, amount in raw.items():
        model, _, measure = name.decode(errors="replace").rpartition(":")
        if model and measure in _MEASURES:
            setattr(models.setdefault(ModelId(model), ModelUsage()), measure, int(amount))
    return models
