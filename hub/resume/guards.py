"""Every request that can be resumed and that this hub looks after; those of dead hubs come to it too."""

import asyncio
from collections.abc import Mapping

from structlog.contextvars import bind_contextvars

from common.keys import Keys
from common.records.idempotency import Held
from common.records.request_book import RequestBook
from common.types import RequestId
from hub.errors import HandedOn
from hub.requests.admission import Submission
from hub.requests.backstage import Backstage
from hub.requests.dispatcher import Dispatcher
from hub.requests.request import OpenRequest
from hub.resume.adoption import Adoption
from hub.resume.bells import Bells
from hub.resume.guard import Guard
from hub.resume.held_keys import HeldKeys
from hub.settings import HubSettings

MARK_S = 2.0
"""How often it is written down that a request is read."""


def mark_every_s(settings: HubSettings) -> float:
    """How often that is done with these settings: a few times in the window after which nobody seems to read."""
    return min(MARK_S, settings.resume_window_s / 3)


class Guards:
    """Starts guards, finds them, and ends what belongs to them."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        backstage: Backstage,
        book: RequestBook,
        held_keys: HeldKeys,
        adoption: Adoption,
        bells: Bells,
        keys: Keys,
    ) -> None:
        self._dispatcher = dispatcher
        self._stage = backstage
        self._book = book
        self._held_keys = held_keys
        self._adoption = adoption
        self._bells = bells
        self._keys = keys
        self._guards: dict[RequestId, Guard] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_stopping(self) -> bool:
        """Whether this hub is about to hand on what it looks after."""
        return self._dispatcher.is_draining

    def find(self, request: RequestId) -> Guard | None:
        """Who looks after a request, if that is this hub."""
        return self._guards.get(request)

    async def open(self, submission: Submission, held: Held | None = None) -> Guard:
        """Admit a request and look after it.

        Args:
            submission: one that can be resumed.
            held: the Idempotency-Key that stands for it, and so the id that it is to have.

        Raises:
            RequestFailed: it is not admitted; nothing of it is left in the broker.
        """
        request = None if held is None else held.asked.request
        return self._watch(await self._dispatcher.submit(submission, request), held)

    async def adopt(self, request: RequestId, facts: Mapping[str, str]) -> bool:
        """Look after a request of a hub that died, which this hub has taken over; False if that cannot be.

        Args:
            request: it can be resumed.
            facts: its hash.

        Raises:
            BrokerError: nobody can tell; try again.
        """
        if request in self._guards:
            return True
        found = await self._adoption.find(request, facts)
        held = Held.parse(request, facts.get("idempotency", ""))
        if found is None:
            return False
        if found.told is not None:
            await self._adoption.finish(request, found.reply, found.told)
            if held is not None:
                await self._held_keys.settle(held, has_answer=found.told.usage is not None)
        elif found.job is not None and request not in self._guards:  # two may have asked at once
            self._watch(self._adoption.take(self._dispatcher, found.job, found.ticket, facts), held)
        return True

    async def run(self) -> None:
        """Say of the requests that run who reads them, and that their Idempotency-Keys stand for them; until cancelled.

        Where two hubs look after one request, because each takes the other for dead, neither ends what is read there.
        """
        mark_s = mark_every_s(self._stage.settings)
        while True:
            await asyncio.sleep(mark_s)
            for request, guard in self._guards.items():
                if guard.is_read:
                    self._stage.ledger.note(request, read_at=self._stage.clock.now_ms())
                if guard.held is not None:  # again, since the broker may have forgotten it
                    self._stage.ledger.note(request, idempotency=guard.held.to_text())
            await self._held_keys.renew([one.held for one in self._guards.values() if one.held is not None])

    @property
    def keep_ms(self) -> int:
        """How long an Idempotency-Key stands for a request, after its end or without being renewed, ms."""
        return self._held_keys.keep_ms

    def _watch(self, request: OpenRequest, held: Held | None) -> Guard:
        guard = Guard(
            request,
            window_s=self._stage.settings.resume_window_s,
            read_elsewhere=self._read_elsewhere,
            held=held,
        )
        self._guards[request.id] = guard
        if held is not None:  # whoever takes the request over is to know
            self._stage.ledger.note(request.id, idempotency=held.to_text())
        task = asyncio.create_task(self._see_through(guard), name=f"guard {request.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return guard

    async def _see_through(self, guard: Guard) -> None:
        request = guard.request
        bind_contextvars(request=request.id)  # one that was taken over is begun in another task
        if request.trail is not None:
            bind_contextvars(trace_id=request.trail.trace_id)
        hub = self._keys.hub_of(request.job.reply)
        try:
            if hub == self._stage.hub:
                await guard.run()
            else:
                with self._bells.heard(hub, keeps=True):
                    await guard.run()
            if guard.held is not None and not isinstance(guard.ended_by, HandedOn):
                await self._held_keys.settle(guard.held, has_answer=guard.ended_by is None)
        finally:
            self._guards.pop(request.id, None)
            guard.is_over = True
            self._dispatcher.close(request)
            request.log.close()

    async def _read_elsewhere(self, request: RequestId) -> float | None:
        facts = (await self._book.read([request])).get(request, {})
        read_at = facts.get("read_at", "")
        return (self._stage.clock.now_ms() - int(read_at)) / 1000 if read_at.isdecimal() else None
