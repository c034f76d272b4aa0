"""Looks after one request until its end, whoever reads along: its clients come and go."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import structlog

from common.errors import BrokerError, ClientGone
from common.records.idempotency import Held
from common.types import RequestId
from hub.errors import HandedOn, NobodyReads, RequestFailed, TooManyReaders
from hub.relay.retelling import Retelling
from hub.requests.request import OpenRequest

log = structlog.get_logger()

MOST_READERS = 64
"""Of one request at one hub; each costs a connection, and a copy of what is on its way to it."""
MANY_RETRY_S = 5
"""When to try again where there are as many readers as may be."""
LOOK_S = 0.5
"""Between looks for readers at other hubs."""
HANDED_ON_RETRY_S = 1
"""Another hub looks after it by then."""

ReadElsewhere = Callable[[RequestId], Awaitable[float | None]]
"""How many seconds ago somebody read a request at another hub; None: nobody did. BrokerError if nobody can tell."""


def too_many_readers() -> TooManyReaders:
    """What one hears who would be one too many."""
    return TooManyReaders(
        f"{MOST_READERS} connections of this hub read this answer already", retry_after_s=MANY_RETRY_S
    )


class Guard:
    """The handler of a request that can be resumed.

    Args:
        request: open, and in nobody else's care.
        window_s: how long it goes on without a reader.
        read_elsewhere: tells of readers at other hubs.
        held: the Idempotency-Key that stands for it; None without one.
    """

    def __init__(
        self, request: OpenRequest, *, window_s: float, read_elsewhere: ReadElsewhere, held: Held | None = None
    ) -> None:
        self.request = request
        self.held = held
        self.ended_by: RequestFailed | None = None
        """Why those who read along hear no more, though the reply does not say so."""
        self.is_over = False
        """Whether nothing more will come."""
        self._window_s = window_s
        self._read_elsewhere = read_elsewhere
        self._readers = 0
        self._read_at = self._look_at = asyncio.get_running_loop().time()

    @property
    def has_failed(self) -> bool:
        """Whether there will be no whole answer, as far as has come."""
        told = Retelling(is_stream=self.request.job.stream)
        told.read_on(self.request.log.entries)
        return self.ended_by is not None or told.failure is not None

    @property
    def is_read(self) -> bool:
        """Whether anybody reads along at this hub."""
        return self._readers > 0

    @contextmanager
    def being_read(self) -> Iterator[None]:
        """Somebody reads along; TooManyReaders if as many do as may."""
        if self._readers >= MOST_READERS:
            raise too_many_readers()
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            self._read_at = asyncio.get_running_loop().time()

    async def run(self) -> None:
        """See the request to its end, or to that of this hub. Never raises but when cancelled."""
        request = self.request
        try:
            while not request.is_finished:
                await request.advance()
                request.take()  # those who read along take it from the log
                await self._look_for_readers()
        except ClientGone:
            self.ended_by = NobodyReads("Nobody read this request for too long.")
        except HandedOn as exc:
            self.ended_by = HandedOn(exc.message, retry_after_s=HANDED_ON_RETRY_S)
        except RequestFailed as exc:
            self.ended_by = request.failed_with = exc
        except Exception:  # those who read along hear it, and its job does not stay
            log.exception("guard_crashed", request=request.id)
            self.ended_by = request.failed_with = RequestFailed("The hub failed on this request.")

    async def _look_for_readers(self) -> None:
        """Abandon the request if nobody has read it for the whole window, here or at any other hub."""
        now = asyncio.get_running_loop().time()
        if self._readers or now < self._read_at + self._window_s or now < self._look_at:
            return
        self._look_at = now + LOOK_S
        try:
            ago_s = await self._read_elsewhere(self.request.id)
        except BrokerError:
            return  # it cannot be read elsewhere either; the next look comes soon
        if ago_s is not None and ago_s < self._window_s:
            self._read_at = max(self._read_at, now - ago_s)
        elif not self._readers:
            log.info("nobody_reads", request=self.request.id, window_s=self._window_s)
            self.request.abandon()
