"""One request for all that come with the same Idempotency-Key: the first is made, the others read along.

Which one is the first is decided by the broker. It holds the record of a key before anything else is done; whoever
finds it held reads the request that it names, or waits for it to appear. If it never does, or has failed, one of those
who ask gets the record instead, and makes its own request.
"""

import asyncio
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from uuid import uuid4

import structlog

from common.errors import BrokerError
from common.records.idempotency import Asked, Held, IdempotencyKeys, body_digest, key_digest
from common.records.request_book import RequestBook
from common.types import RequestId, RequestStatus
from hub.asking import asking_broker
from hub.errors import BrokerAway, KeyReused
from hub.office.requests import OPEN
from hub.requests.admission import Submission
from hub.requests.backstage import Backstage
from hub.resume.fates import Fates
from hub.resume.following import Following
from hub.resume.followings import Followings
from hub.resume.guards import Guards

log = structlog.get_logger()

LOOK_S = 0.1
"""Between looks for a request that a key stands for and that is not to be seen yet."""
MOST_TRIES_S = 30.0
"""How long a client is kept waiting for a key that changes hands again and again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client with a key is to read."""

    request: RequestId
    reading: AbstractContextManager[Following]
    is_replay: bool
    """Whether another client, or this one before, has asked for it."""


class Idempotency:
    """Finds the one request that stands for a key, or makes it."""

    def __init__(
        self,
        guards: Guards,
        followings: Followings,
        fates: Fates,
        records: IdempotencyKeys,
        book: RequestBook,
        backstage: Backstage,
    ) -> None:
        self._guards = guards
        self._followings = followings
        self._fates = fates
        self._records = records
        self._book = book
        self._stage = backstage

    async def ask(self, submission: Submission, key: str) -> Answer:
        """What a submission with this key is answered by.

        Raises:
            KeyReused: the key stands for something else.
            RequestFailed: it is not admitted; the key stands for nothing then.
        """
        mine = Held(
            key_digest(submission.caller.key_id, key),
            Asked(RequestId(uuid4().hex), body_digest(submission.endpoint, submission.body)),
        )
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + MOST_TRIES_S
        instead_of: RequestId | None = None
        missed: RequestId | None = None
        missed_at = loop.time()
        while loop.time() < give_up_at:
            held = await self._claim(mine, instead_of)
            instead_of = None
            if held.request == mine.asked.request:
                return await self._make(submission, mine)
            if held.body != mine.asked.body:
                raise KeyReused(
                    "This Idempotency-Key was used for a request with another body.", param="idempotency-key"
                )
            if held.request != missed:
                missed, missed_at = held.request, loop.time()
            reading, has_failed = await self._find(held.request)
            if reading is not None:
                return Answer(held.request, reading, is_replay=True)
            if has_failed or loop.time() - missed_at > self._fates.orphan_s:
                instead_of = held.request
            else:
                await asyncio.sleep(LOOK_S)
        raise BrokerAway("this Idempotency-Key cannot be settled at present", retry_after_s=1)

    async def _claim(self, mine: Held, instead_of: RequestId | None) -> Asked:
        now_ms = self._stage.clock.now_ms()
        with asking_broker("idempotency", self._stage.settings.retry_after_s):
            return await self._records.claim(mine, now_ms=now_ms, ttl_ms=self._guards.keep_ms, instead_of=instead_of)

    async def _make(self, submission: Submission, held: Held) -> Answer:
        try:
            guard = await self._guards.open(submission, held)
        except BaseException:  # also when cancelled: nobody else may wait for it
            with suppress(BrokerError):
                await self._records.drop(held)
            raise
        return Answer(held.asked.request, self._followings.read_guarded(guard), is_replay=False)

    async def _find(self, request: RequestId) -> tuple[AbstractContextManager[Following] | None, bool]:
        """A reading of a request, if it can be read; else whether it is known to have no answer."""
        guard = self._guards.find(request)
        if guard is not None:
            return (None, True) if guard.has_failed else (await self._followings.read(request, {}), False)
        with asking_broker("idempotency", self._stage.settings.retry_after_s):
            facts = (await self._book.read([request])).get(request, {})
            status = facts.get("status")
            if await self._fates.has_failed(facts):
                return None, True
            if status in OPEN:
                is_kept = await self._fates.has_reply(facts) or await self._fates.is_kept(request, facts)
                return (await self._followings.read(request, facts) if is_kept else None), False
            if status == RequestStatus.DONE and await self._fates.has_reply(facts):
                return await self._followings.read(request, facts), False
        return None, status is not None
