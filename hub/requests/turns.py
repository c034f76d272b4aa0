"""The turns of requests that come with a client key: asked for at once, told and renewed in batches.

Only the reservation is on a request's way: one round trip. That it was claimed or is over is told within 10 ms, or 1 ms
where others of its key wait, together with whatever else happened to requests of the same key; what this hub holds is
renewed as long as it holds it.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from uuid import uuid4

import structlog

from common.errors import BrokerError
from common.records.credentials import ClientKey
from common.records.limits import GRACE_MS, UNKNOWN_TOKENS, Limits, Quota, Saying, Standing, Verb, Verdict
from common.streams.jobs import LaneName
from common.tasks import wait_or_stop
from common.types import KeyId, Lane, ModelId, RequestId
from hub.errors import BrokerAway, KeyQueueFull, RateLimited
from hub.settings import HubSettings

log = structlog.get_logger()

GATHER_S = 0.01
HURRY_S = 0.001
"""Instead, where somebody waits for a turn that may come free by what is told, s."""
LOOK_S = 1.0
"""How often those who wait look by themselves whether their turn has come: a doorbell is a hint."""
SAYINGS_PER_CALL = 500
_NO_LANE = LaneName(Lane.INTERACTIVE, ModelId(""))
_REFUSED = {Verdict.NO_REQUESTS: "requests", Verdict.NO_TOKENS: "tokens"}


class Turn:
    """One request's place among those of its key."""

    def __init__(self, key: ClientKey, request: RequestId, lane: LaneName, tokens: int) -> None:
        self.key = key
        self.request = request
        self.lane = lane
        self.tokens = tokens
        """Set aside for it."""
        self.verb = Verb.WAIT
        """How it stands, as it is told to the broker."""
        self.is_reserved = False
        """Whether the broker has answered: before, nothing may be said of it."""
        self.ahead = 0
        """Requests of its own key that go first, while it waits."""
        self.wake: Callable[[], None] | None = None
        """Called when its turn has come."""

    @property
    def has_come(self) -> bool:
        """Whether its job may be published."""
        return self.verb is not Verb.WAIT

    def come(self) -> None:
        """It is its turn."""
        if self.verb is Verb.WAIT:
            self.verb = Verb.QUEUE
            if self.wake is not None:
                self.wake()


class _Book:
    """What this hub holds of one key, and what it has still to say."""

    def __init__(self, key: ClientKey) -> None:
        self.key = key
        self.turns: dict[RequestId, Turn] = {}
        self.unsaid: dict[RequestId, Saying] = {}
        self.waiting: set[RequestId] = set()
        """Those of them that wait for their turn."""
        self.claims: dict[LaneName, deque[float]] = {}
        """When its jobs were claimed of late, by the loop's time."""
        self.speaking = asyncio.Lock()  # an old word that comes after a newer one would bring back what is over
        self.quota = Quota()
        self.asked = 0
        """Calls to the broker so far."""
        self.heard = 0
        """The latest of them whose answer has come: that of an earlier one tells nothing new of the quota."""
        self.said_at = 0.0
        self.used_at = 0.0

    def shares(self, over_s: float) -> Mapping[LaneName, int]:
        """Twice as many of each lane as were claimed there within the last seconds: so a share grows while they are."""
        since = asyncio.get_running_loop().time() - over_s
        for lane, claims in [*self.claims.items()]:
            while claims and claims[0] < since:
                claims.popleft()
            if not claims:
                del self.claims[lane]
        return {lane: 2 * len(claims) for lane, claims in self.claims.items()}

    def next_call(self) -> int:
        """The number of the next call."""
        self.asked += 1
        return self.asked

    def take_news(self) -> list[Saying]:
        """What is to be said next."""
        return [self.unsaid.pop(one) for one in [*self.unsaid][:SAYINGS_PER_CALL]]

    def put_back(self, sayings: Sequence[Saying]) -> None:
        """These may not have been heard. Newer words count; of one that is over, only that it is."""
        for saying in sayings:
            is_news = saying.request in self.turns and saying.request not in self.unsaid
            if is_news or saying.verb is Verb.END:
                self.unsaid[saying.request] = saying


class Turns:
    """Every turn of this hub's requests."""

    def __init__(self, limits: Limits, settings: HubSettings) -> None:
        self._limits = limits
        self._lease_s = settings.limit_lease_s
        self._lane_share_s = settings.lane_share_s
        self._retry_after_s = settings.retry_after_s
        self._books: dict[KeyId, _Book] = {}
        self._rung = asyncio.Event()
        self._hurried = asyncio.Event()

    def quota(self, key: ClientKey | None) -> Quota | None:
        """What a key has left, as last heard; None where that is unknown."""
        book = None if key is None else self._books.get(key.id)
        return None if book is None else book.quota

    async def reserve(self, key: ClientKey, request: RequestId, lane: LaneName, tokens: int) -> Turn:
        """Ask for a turn, which may come later: see `Turn.has_come`.

        Raises:
            RateLimited: the key's minute is used up.
            KeyQueueFull: as many of its requests wait as may.
            BrokerAway: it does not answer; a turn that was given all the same comes free by itself.
        """
        turn = Turn(key, request, lane, tokens)
        book = self._books.setdefault(key.id, _Book(key))
        book.key, book.used_at = key, asyncio.get_running_loop().time()
        book.turns[request] = turn
        call = book.next_call()
        news = book.take_news()  # one that has been claimed may leave its place to this one
        try:
            reservation = Saying(Verb.RESERVE, request, lane, tokens)
            standing = await self._limits.say(key, [*news, reservation], self._shares(book))
        except BaseException as exc:  # a cancellation too: it may be reserved all the same
            book.put_back(news)
            self.end(turn, 0)
            if not isinstance(exc, BrokerError):
                raise
            log.warning("broker_unavailable", doing="reserve", request=request, error=str(exc))
            raise BrokerAway("the broker does not answer", retry_after_s=self._retry_after_s) from exc
        turn.is_reserved = standing.verdict in (Verdict.TURN, Verdict.WAIT)
        if not turn.is_reserved:
            book.turns.pop(request, None)
        elif standing.verdict is Verdict.WAIT and not turn.has_come:
            book.waiting.add(request)
        await self._heard(book, standing, call)
        if standing.verdict is Verdict.FULL:
            raise KeyQueueFull(
                "as many requests of this API key wait for their turn as may", retry_after_s=self._retry_after_s
            )
        if standing.verdict in _REFUSED:
            what = _REFUSED[standing.verdict]
            limit = key.rpm if standing.verdict is Verdict.NO_REQUESTS else key.tpm
            raise RateLimited(
                f"This API key may use {limit} {what} per minute, and has used them.",
                retry_after_s=max(1, math.ceil(standing.wait_ms / 1000)),
            )
        return turn

    async def count_request(self, key: ClientKey) -> None:
        """Count a request of a key that becomes no job here against its minute.

        Raises:
            RateLimited, KeyQueueFull, BrokerAway: as `reserve`.
        """
        if key.rpm is not None:
            self.end(await self.reserve(key, RequestId(uuid4().hex), _NO_LANE, 0), 0)

    def claimed(self, turn: Turn) -> None:
        """A provider has its job: another one of the key may be published."""
        turn.verb = Verb.RUN
        book = self._books.get(turn.key.id)
        if book is not None:
            book.claims.setdefault(turn.lane, deque()).append(asyncio.get_running_loop().time())
        self._say(turn, Saying(Verb.RUN, turn.request, turn.lane, turn.tokens))

    def look(self, turn: Turn) -> None:
        """Ask whether its turn has come: its hub's doorbell said so."""
        if not turn.has_come:
            self._say(turn, Saying(turn.verb, turn.request, turn.lane, turn.tokens))

    def end(self, turn: Turn, tokens: int = UNKNOWN_TOKENS) -> None:
        """It is over, and used so many tokens; may be said twice."""
        book = self._books.get(turn.key.id)
        if book is not None and book.turns.pop(turn.request, None) is not None:
            book.waiting.discard(turn.request)
            self._say(turn, Saying(Verb.END, turn.request, turn.lane, tokens))

    async def run(self) -> None:
        """Tell what happened until cancelled."""
        while True:
            await self._rung.wait()
            if not self._hurried.is_set():
                await wait_or_stop(self._hurried, GATHER_S)
            await asyncio.sleep(HURRY_S)
            self._hurried.clear()
            self._rung.clear()
            await self._speak([book for book in self._books.values() if book.unsaid])

    async def keep(self) -> None:
        """Renew what this hub holds until cancelled, and ask for those who wait."""
        while True:
            await asyncio.sleep(min(LOOK_S, self._lease_s / 3))
            await self.look_at_all()

    async def look_at_all(self) -> None:
        """Renew what is due."""
        now = asyncio.get_running_loop().time()
        due = []
        for key, book in [*self._books.items()]:
            told = [turn for turn in book.turns.values() if turn.is_reserved]
            waits = [turn for turn in told if not turn.has_come]
            if now - book.said_at >= self._lease_s / 3:
                rests = not book.turns and not book.unsaid
                # What hubs that died have left is looked after for a while longer.
                if rests and now - book.used_at > 2 * self._lease_s + 3 * GRACE_MS / 1000:
                    del self._books[key]
                    continue
            elif waits or book.unsaid:
                told = waits
            else:
                continue
            for turn in told:
                book.unsaid.setdefault(turn.request, Saying(turn.verb, turn.request, turn.lane, turn.tokens))
            due.append(book)
        await self._speak(due)

    async def finish(self, limit_s: float) -> None:
        """Tell what is left to tell, within a limit."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._speak([book for book in self._books.values() if book.unsaid])

    def _shares(self, book: _Book) -> Mapping[LaneName, int]:
        return book.shares(self._lane_share_s)

    def _say(self, turn: Turn, saying: Saying) -> None:
        book = self._books.get(turn.key.id)
        if book is not None:
            book.unsaid[turn.request] = saying
            self._rung.set()
            if book.waiting:
                self._hurried.set()

    async def _speak(self, books: Sequence[_Book]) -> None:
        await asyncio.gather(*(self._speak_of(book) for book in books))

    async def _speak_of(self, book: _Book) -> None:
        async with book.speaking:
            while True:
                sayings = book.take_news()
                call = book.next_call()
                try:
                    standing = await self._limits.say(book.key, sayings, self._shares(book))
                except BrokerError as exc:
                    log.warning("broker_unavailable", doing="turns", error=str(exc))
                    book.put_back(sayings)  # the next look at all says it again
                    return
                book.said_at = asyncio.get_running_loop().time()
                await self._heard(book, standing, call)
                if not book.unsaid:
                    return

    async def _heard(self, book: _Book, standing: Standing, call: int) -> None:
        if call > book.heard:
            book.heard, book.quota = call, standing.quota
        for request, place in standing.places.items():
            if (turn := book.turns.get(request)) is not None:
                turn.ahead = place
        for request, _ in standing.granted:
            if (turn := book.turns.get(request)) is not None:
                book.waiting.discard(request)
                turn.come()
        try:
            await self._limits.pass_on(standing)
        except BrokerError as exc:  # those who wait look by themselves, and the orphans' replies end by their TTL
            log.warning("broker_unavailable", doing="pass_on", error=str(exc))
