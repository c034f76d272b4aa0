"""What becomes of requests that other hubs look after, as far as the broker tells."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from common.errors import BrokerError, WireError
from common.records.registry import Registry
from common.records.request_book import RequestBook
from common.streams.replies import ReplyStreams
from common.types import HubId, RequestId, RequestStatus
from hub.errors import BrokerAway, HubLost, RequestFailed, RequestGone, plain_code
from hub.grid.presence import hub_lease_ms
from hub.office.requests import OPEN
from hub.recovery.facts import is_stream
from hub.relay.inbox import Inbox
from hub.relay.reader import ReplyReader
from hub.relay.retelling import retold
from hub.settings import HubSettings

ORPHAN_LEASES = 2
"""So many leases of a hub: within one it may still live, within the other somebody takes over from it."""
RETRY_S = 1
"""When to come back to a hub that lives, s."""


class Fates:
    """Tells whether anything more will come. Raises BrokerError where that cannot be told."""

    def __init__(
        self,
        book: RequestBook,
        replies: ReplyStreams,
        registry: Registry,
        reader: ReplyReader,
        settings: HubSettings,
    ) -> None:
        self._book = book
        self._replies = replies
        self._registry = registry
        self._reader = reader
        self._settings = settings
        self.orphan_s = ORPHAN_LEASES * hub_lease_ms(settings) / 1000
        """How long a request may have neither hub nor reply before it counts as lost."""

    async def is_kept(self, request: RequestId, facts: Mapping[str, str]) -> bool:
        """Whether an open request has a hub that lives and knows it, or a reply that one may look after.

        A broker may have lost that it ended: then its hub, which has forgotten it, would be waited for in vain.
        """
        hub = HubId(facts.get("hub", ""))
        if not any(one.hub == hub for one in await self._registry.live_hubs()):
            return await self.has_reply(facts)
        if await self._book.is_looked_after(request, hub):
            return True
        # One that waits for its turn has no job yet, and is in no hub's list before that.
        return facts.get("status") == RequestStatus.QUEUED and "entry" not in facts

    async def has_reply(self, facts: Mapping[str, str]) -> bool:
        """Whether its reply is in the broker."""
        return bool(facts.get("reply")) and await self._replies.last_id(facts["reply"]) is not None

    async def has_failed(self, facts: Mapping[str, str]) -> bool:
        """Whether its reply says that there will be no whole answer: that is there before its hash says so."""
        if not facts.get("reply"):
            return False
        try:
            told = await retold(self._replies, facts["reply"], is_stream=is_stream(facts))
        except WireError:
            return True
        return told.failure is not None

    def watch(self, inbox: Inbox) -> Callable[[], Awaitable[None]]:
        """What a reader calls to whom nothing comes: raises RequestFailed once nothing will."""
        loop = asyncio.get_running_loop()
        seen_at = told_at = loop.time()
        was_over = False

        async def look() -> None:
            nonlocal seen_at, told_at, was_over
            try:
                facts = (await self._book.read([inbox.request])).get(inbox.request, {})
                status = facts.get("status")
                if status is not None and status not in OPEN:
                    if was_over:  # what came before that has been read since
                        raise ending(facts)
                    was_over = True
                    await self._reader.fetch([inbox])
                elif await self.is_kept(inbox.request, {"reply": inbox.reply, **facts}):
                    seen_at = loop.time()
                told_at = loop.time()
            except BrokerError as exc:
                seen_at = loop.time()
                if seen_at - told_at > self._settings.broker_grace_s:
                    raise BrokerAway("the broker is away for too long", retry_after_s=RETRY_S) from exc
            if loop.time() - seen_at > self.orphan_s:
                raise HubLost("the hub that looked after this request is gone", retry_after_s=RETRY_S)

        return look


def ending(facts: Mapping[str, str]) -> RequestFailed:
    """What is said of a request that is over, where its reply does not tell."""
    status, said = facts.get("status"), facts.get("error", "")
    code = plain_code(said)
    if status == RequestStatus.DONE or status in OPEN:
        return RequestGone("This request is over, and its answer is not kept any more.")
    if status == RequestStatus.CANCELLED:
        return RequestFailed("This request was cancelled.", status=410, code=code if said else "request_cancelled")
    return RequestFailed("This request failed.", status=502, code=code)
