"""Dead letters: jobs that a provider refused, or that failed on every attempt, for the operator to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis import exceptions as rx

from common.broker.broker import Broker
from common.broker.errors import broker_errors
from common.broker.shapes import Fields, is_used_up

DEAD_MAXLEN = 1000
DEAD_TTL_MS = 7 * 86_400_000
"""How long the dead letters outlive the last of them, and the last hub, ms."""
MAX_ENTRY_PART = 2**64


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One entry. Whoever may write here can write anything: each field is to be judged by its reader."""

    entry: str
    fields: Fields

    @property
    def at_ms(self) -> int:
        """When it was written, Unix ms on the broker's clock."""
        return int(self.entry.partition("-")[0])

    def text(self, name: bytes) -> str | None:
        """A field as text, for display; None if it is not there."""
        value = self.fields.get(name)
        return None if value is None else value.decode(errors="replace")


def is_entry(text: str) -> bool:
    """Whether a text can be a stream entry's id."""
    parts = text.split("-")
    return len(parts) == 2 and all(
        part.isascii() and part.isdigit() and len(part) <= 20 and int(part) < MAX_ENTRY_PART for part in parts
    )


class DeadLetters:
    """The stream of dead letters. Raises BrokerUnavailable or BrokerRefused from every method."""

    def __init__(self, broker: Broker) -> None:
        self._commands = broker.commands
        self._key = broker.keys.dead

    async def add(self, fields: Fields) -> None:
        """Write a letter; the oldest go where there are too many.

        All of them go if no id is left for a new one: a provider added its own under the highest, which would end the
        dead letters for good. It could drop them anyway.
        """
        entry: dict[Any, Any] = {**fields}
        with broker_errors():
            try:
                await self._commands.xadd(self._key, entry, maxlen=DEAD_MAXLEN, approximate=True)
            except rx.ResponseError:
                if not await is_used_up(self._commands, self._key):
                    raise
                await self._commands.delete(self._key)
                await self._commands.xadd(self._key, entry, maxlen=DEAD_MAXLEN, approximate=True)
            await self._commands.pexpire(self._key, DEAD_TTL_MS)

    async def newest(self, count: int, before: str | None = None) -> Sequence[DeadLetter]:
        """The last letters, or the last before an entry, the newest first."""
        with broker_errors():
            entries: Any = await self._commands.xrevrange(self._key, max=f"({before}" if before else "+", count=count)
        return [DeadLetter(entry.decode(), fields) for entry, fields in entries]

    async def count(self) -> int:
        """How many letters there are."""
        with broker_errors():
            return int(await self._commands.xlen(self._key))

    async def read(self, entry: str) -> DeadLetter | None:
        """One letter; `entry` must be one (`is_entry`)."""
        with broker_errors():
            found: Any = await self._commands.xrange(self._key, entry, entry)
        return DeadLetter(found[0][0].decode(), found[0][1]) if found else None

    async def drop(self, entry: str) -> bool:
        """Delete a letter; whether this call did it: of several, one does."""
        with broker_errors():
            return bool(await self._commands.xdel(self._key, entry))

    async def drop_all(self) -> int:
        """Delete every letter there is now; how many there were."""
        with broker_errors():
            return int(await self._commands.xtrim(self._key, maxlen=0, approximate=False))
