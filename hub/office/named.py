"""Keys and tokens by the names that people give them."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Generic, TypeVar

from pydantic import AfterValidator, Field

from common.records.credentials import ClientKey, ProviderToken
from common.settings import NAME_PATTERN
from hub.asking import asking_broker
from hub.errors import Conflict, NotFound

Record = TypeVar("Record", ClientKey, ProviderToken)
_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)


def _no_id(name: str) -> str:
    if _ID.fullmatch(name):
        raise ValueError("16 hexadecimal digits are what an id looks like: choose another name")
    return name


RecordName = Annotated[str, Field(pattern=f"^{NAME_PATTERN}$"), AfterValidator(_no_id)]
"""Can stand in a path, and is never mistaken for an id."""


class NamedRecords(Generic[Record]):
    """All keys, or all tokens. Raises BrokerAway from every method.

    A name belongs to one record. Two hubs may be asked for the same name in the same moment: each writes its record,
    then looks again, and takes its own back if it sees another one. So there are never two of a name; that both are
    refused is the price, and the next try settles it.

    Args:
        kind: what one is called, in messages and codes.
        known: this hub's copy of them, by digest.
        refresh: renews that copy.
        add: writes one.
        remove: deletes the one with a digest.
        retry_after_s: what clients hear where the broker is away.
    """

    def __init__(
        self,
        kind: str,
        known: Callable[[], Mapping[str, Record]],
        *,
        refresh: Callable[[], Awaitable[None]],
        add: Callable[[Record], Awaitable[None]],
        remove: Callable[[str], Awaitable[None]],
        retry_after_s: int,
    ) -> None:
        self._kind = kind
        self._known: Callable[[], Mapping[str, Record]] = known
        self._refresh = refresh
        self._add: Callable[[Record], Awaitable[None]] = add
        self._remove = remove
        self._retry_after_s = retry_after_s

    async def all(self) -> list[Record]:
        """Every one that there is now."""
        with asking_broker(f"{self._kind}s", self._retry_after_s):
            await self._refresh()
        return list(self._known().values())

    async def find(self, wanted: str) -> Record:
        """The one with this id or name; NotFound without one."""
        found = next((one for one in await self.all() if wanted in (one.id, one.name)), None)
        if found is None:
            raise NotFound(f"There is no {self._kind} {wanted!r}.", code=f"{self._kind}_not_found")
        return found

    async def add(self, record: Record) -> None:
        """Let one in; Conflict if its name is taken."""
        taken = Conflict(f"There is a {self._kind} {record.name!r} already.", code="name_taken", param="name")
        if any(one.name == record.name for one in await self.all()):
            raise taken
        with asking_broker(f"create {self._kind}", self._retry_after_s):
            await self._add(record)
            await self._refresh()
            others = [one for one in self._known().values() if one.digest != record.digest]
            if any(one.name == record.name for one in others):  # made at another hub in this moment
                await self._remove(record.digest)
                await self._refresh()
                raise taken

    async def remove(self, record: Record) -> None:
        """Let one in no more."""
        with asking_broker(f"revoke {self._kind}", self._retry_after_s):
            await self._remove(record.digest)
            await self._refresh()
