"""The limits of client keys, kept in the broker so that all hubs share them: turns, and what a minute allows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from common.broker.broker import Broker
from common.broker.errors import broker_errors, raise_first
from common.broker.line import Argument, Command
from common.broker.scripts import Script
from common.records.credentials import ClientKey
from common.streams.jobs import LaneName
from common.streams.replies import ringing
from common.types import HubId, RequestId

_KEEP = Script("keep_turns")
_BOOKS = ("bucket", "turns", "unclaimed", "waiting", "leases", "requests")
GRACE_MS = 2000
"""How long a request whose lease has ended is waited for once more, and how long its provider has to end it, ms."""
UNKNOWN_TOKENS = -1
NO_SHARES: Mapping[LaneName, int] = {}


class Verb(StrEnum):
    """What a hub says of a request."""

    RESERVE = "reserve"
    WAIT = "wait"
    QUEUE = "queue"
    RUN = "run"
    END = "end"


class Verdict(StrEnum):
    """What becomes of a reservation."""

    TURN = "turn"
    WAIT = "wait"
    NO_REQUESTS = "requests"
    """The minute's requests are used up."""
    NO_TOKENS = "tokens"
    FULL = "full"
    """As many wait for their turn as may."""


class Saying(NamedTuple):
    """One thing that a hub says of a request of a key."""

    verb: Verb
    request: RequestId
    lane: LaneName
    tokens: int = UNKNOWN_TOKENS
    """Reserved, or at the end what was really used."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """One of a key's limits per minute: its size, what is left now, and when all of it will be there again."""

    limit: int
    remaining: int
    full_in_ms: int


@dataclass(frozen=True, slots=True)
class Quota:
    """What a key may still do; None: it has no such limit."""

    requests: Allowance | None = None
    tokens: Allowance | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a key's requests stand after what was said."""

    granted: Sequence[tuple[RequestId, HubId]]
    """Those whose turn has come."""
    orphans: Sequence[tuple[RequestId, HubId]]
    """Those whose hub is gone: their replies are to be ended before their turns are given to others."""
    places: dict[RequestId, int]
    """How many of the key's own go before each of those asked about."""
    verdict: Verdict | None
    """Of the last reservation; None if there was none."""
    wait_ms: int
    """After this time a reservation that found the minute used up would find enough."""
    quota: Quota


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What is the same for all keys; all hubs should agree."""

    lane_share: int
    """Most unclaimed jobs of one key in one lane."""
    max_waiting: int
    """Most requests of one key that wait for their turn."""
    lease_ms: int
    """How long a request counts after its hub last spoke of it."""
    ttl_ms: int
    """How long the books outlive the last that was said."""


class Limits:
    """The books on client keys. Raises BrokerUnavailable or BrokerRefused from every method."""

    def __init__(self, broker: Broker, hub: HubId, settings: LimitSettings) -> None:
        self._line = broker.line
        self._keys = broker.keys
        self._hub = hub
        self._settings = settings

    async def say(
        self, key: ClientKey, sayings: Sequence[Saying] = (), shares: Mapping[LaneName, int] = NO_SHARES
    ) -> Standing:
        """Enter what happened to requests of a key, in one step; all but `reserve` may be said twice.

        Args:
            key: whose requests they are.
            sayings: what happened, in order.
            shares: lanes in which so many of its jobs may lie unclaimed, where that is more than `lane_share`.
        """
        most = (-1 if one is None else one for one in (key.rpm, key.tpm, key.concurrency))
        settings = self._settings
        args: list[Argument] = [
            *most,
            *(settings.lane_share, settings.max_waiting, settings.lease_ms, GRACE_MS, settings.ttl_ms, self._hub),
            len(shares),
        ]
        for name, share in shares.items():
            args += [str(name), share]
        for saying in sayings:
            name = saying.lane
            args += [saying.verb.value, saying.request, str(name), name.lane.urgency, saying.tokens]
        with broker_errors():
            answer = await _KEEP.run(self._line, [self._keys.limit(key.id, book) for book in _BOOKS], args)
        granted, orphans, places, verdict, wait_ms, *left = answer
        return Standing(
            granted=[*_with_hubs(granted)],
            orphans=[*_with_hubs(orphans)],
            places={RequestId(one.decode()): int(place) for one, place in zip(places[::2], places[1::2], strict=True)},
            verdict=Verdict(verdict.decode()) if verdict else None,
            wait_ms=int(wait_ms),
            quota=Quota(_allowance(key.rpm, *left[:2]), _allowance(key.tpm, *left[2:])),
        )

    async def pass_on(self, standing: Standing) -> None:
        """Tell other hubs of turns that have come, and end what hubs that are gone have left.

        A ring is a hint: a hub also looks by itself. A provider whose reply is gone drops its job.
        """
        commands: list[Command] = [
            ringing(self._keys.doorbell(hub), [request]) for request, hub in standing.granted if hub != self._hub
        ]
        with broker_errors():
            for request, hub in standing.orphans:
                # One that can be resumed goes on under the care of another hub, and so does its reply.
                if await self._line.say("HGET", self._keys.request(request), "resumable") != b"1":
                    commands.append(("DEL", self._keys.reply(hub, request)))
            if commands:
                raise_first(await self._line.ask(commands))


def _with_hubs(found: Sequence[bytes]) -> Iterator[tuple[RequestId, HubId]]:
    for request, hub in zip(found[::2], found[1::2], strict=True):
        yield RequestId(request.decode()), HubId(hub.decode())


def _allowance(limit: int | None, remaining: int, full_in_ms: int) -> Allowance | None:
    return None if limit is None else Allowance(limit, remaining, full_in_ms)
