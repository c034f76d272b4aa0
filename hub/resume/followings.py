"""Opens readings of requests, whichever hub looks after them, and tells that hub that they are read."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

from common.keys import Keys
from common.types import ModelId, RequestId
from hub.errors import ShuttingDown, TooManyReaders
from hub.office.requests import OPEN
from hub.recovery.facts import is_stream
from hub.requests.backstage import Backstage
from hub.resume.bells import Bells
from hub.resume.fates import Fates, ending
from hub.resume.following import Following, LocalFollowing
from hub.resume.guard import MANY_RETRY_S, MOST_READERS, Guard, too_many_readers
from hub.resume.guards import Guards, mark_every_s
from hub.resume.reply_following import ReplyFollowing

MOST_ELSEWHERE = 1000
"""Readings at one hub of requests that it does not look after: each reads the broker for itself."""


class Followings:
    """Opens readings."""

    def __init__(
        self,
        guards: Guards,
        backstage: Backstage,
        fates: Fates,
        bells: Bells,
        keys: Keys,
    ) -> None:
        self._guards = guards
        self._stage = backstage
        self._fates = fates
        self._bells = bells
        self._keys = keys
        self._read_here: Counter[RequestId] = Counter()
        """Readings of open requests that another hub looks after."""
        self._elsewhere: Counter[RequestId] = Counter()
        """Readings of all requests that this hub does not look after."""

    async def run(self) -> None:
        """Tell the other hubs which of their requests are read here, until cancelled."""
        while True:
            await asyncio.sleep(mark_every_s(self._stage.settings))
            for request in self._read_here:
                self._mark(request)

    async def read(self, request: RequestId, facts: Mapping[str, str]) -> AbstractContextManager[Following]:
        """A reading of a request with these facts, to be entered once.

        Raises:
            BrokerError: nobody can tell whether there is anything to be read.
            RequestFailed: there is nothing: how it ended, or RequestGone.
            ShuttingDown: this hub is stopping.
            TooManyReaders: on entering.
        """
        if self._guards.is_stopping:
            raise ShuttingDown("this hub is stopping", retry_after_s=self._stage.settings.retry_after_s)
        guard = self._guards.find(request)
        if guard is not None:
            return self.read_guarded(guard)
        try:
            self._keys.hub_of(facts.get("reply", ""))
        except ValueError:
            raise ending(facts) from None
        if facts.get("status") not in OPEN and not await self._fates.has_reply(facts):
            raise ending(facts)
        return self._read_elsewhere(request, facts)

    @contextmanager
    def read_guarded(self, guard: Guard) -> Iterator[Following]:
        """A reading of a request that this hub looks after."""
        with guard.being_read():
            yield LocalFollowing(guard)

    @contextmanager
    def _read_elsewhere(self, request: RequestId, facts: Mapping[str, str]) -> Iterator[Following]:
        if self._elsewhere.total() >= MOST_ELSEWHERE:
            raise TooManyReaders("this hub reads as many answers of others as it may", retry_after_s=MANY_RETRY_S)
        if self._elsewhere[request] >= MOST_READERS:
            raise too_many_readers()
        reader, is_open = self._stage.reader, facts.get("status") in OPEN
        inbox = reader.follow(request, facts["reply"], log_bytes=0)
        self._elsewhere[request] += 1
        try:
            if is_open:
                self._read_here[request] += 1
                self._mark(request)
            hub = self._keys.hub_of(inbox.reply)
            with nullcontext() if hub == self._stage.hub else self._bells.heard(hub):
                yield ReplyFollowing(
                    inbox,
                    reader,
                    self._fates.watch(inbox),
                    lambda: self._guards.is_stopping,
                    model=ModelId(facts.get("model", "")),
                    is_stream=is_stream(facts),
                    queued_ms=_queued_ms(facts),
                )
        finally:
            reader.close(inbox)
            self._elsewhere -= Counter((request,))
            if is_open:
                self._read_here -= Counter((request,))

    def _mark(self, request: RequestId) -> None:
        self._stage.ledger.note(request, read_at=self._stage.clock.now_ms())


def _queued_ms(facts: Mapping[str, str]) -> int | None:
    queued_at, claimed_at = facts.get("queued_at", ""), facts.get("claimed_at", "")
    return max(0, int(claimed_at) - int(queued_at)) if queued_at.isdecimal() and claimed_at.isdecimal() else None
