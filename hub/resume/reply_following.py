"""Reading along from the broker: at a hub that does not look after the request, or after its end."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from common.errors import BrokerError
from common.records.limits import Quota
from common.succession import LoggedEntry
from common.types import ModelId, NodeId
from hub.errors import BrokerAway, HandedOn
from hub.relay.inbox import Inbox
from hub.relay.reader import ReplyReader
from hub.resume.guard import HANDED_ON_RETRY_S

LOOK_S = 2.0
"""How long nothing may come from another hub's request before its hash is looked at."""


class ReplyFollowing:
    """Reads along from the broker.

    Args:
        inbox: of the reply, from its beginning; nobody else takes from it.
        reader: which fills it.
        look: asked when nothing has come for a while; raises RequestFailed if nothing will.
        is_stopping: whether this hub is, so that its readers had better go to another one.
    """

    def __init__(
        self,
        inbox: Inbox,
        reader: ReplyReader,
        look: Callable[[], Awaitable[None]],
        is_stopping: Callable[[], bool],
        *,
        model: ModelId,
        is_stream: bool,
        queued_ms: int | None,
    ) -> None:
        self.request, self.model, self.is_stream, self.queued_ms = inbox.request, model, is_stream, queued_ms
        self.quota: Quota | None = None
        self._inbox = inbox
        self._reader = reader
        self._look = look
        self._is_stopping = is_stopping
        self._look_at = asyncio.get_running_loop().time()
        self._has_fetched = False

    def standing(self, node: NodeId | None) -> str:
        """Where the request stands, in words."""
        return "queued" if node is None else f"running on {node}"

    async def advance(self) -> Sequence[LoggedEntry]:
        """The next entries; raises what `look` says, and HandedOn where this hub stops."""
        if not self._has_fetched:  # what is there already rings no doorbell
            self._has_fetched = True
            await self._fetch()
        await self._inbox.wait()
        entries = self._inbox.take()
        if self._inbox.is_lost:
            raise BrokerAway("the reply of this request cannot be read")
        if self._inbox.was_skipped:
            await self._fetch()
        now = asyncio.get_running_loop().time()
        if self._is_stopping():
            raise HandedOn("this hub is stopping; read on at another one", retry_after_s=HANDED_ON_RETRY_S)
        if entries:
            self._look_at = now + LOOK_S
        elif now >= self._look_at:
            self._look_at = now + LOOK_S
            await self._look()
        return entries

    async def _fetch(self) -> None:
        """Read on; a broker that is away is looked at again with all other replies."""
        with suppress(BrokerError):
            await self._reader.fetch([self._inbox])
