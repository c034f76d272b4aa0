"""Idempotency-Keys: which request each stands for, whichever hub is asked."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from common.broker.broker import Broker
from common.broker.errors import broker_errors
from common.broker.scripts import Script
from common.types import KeyId, RequestId

_CLAIM = Script("claim_idempotency_key")
_KEEP = Script("keep_idempotency_key")


class Asked(NamedTuple):
    """The request that a key stands for, and the digest of what that asks for."""

    request: RequestId
    body: str


class Held(NamedTuple):
    """A key by its digest, and what it stands for."""

    digest: str
    asked: Asked

    def to_text(self) -> str:
        """What the request's hash says of it, for whoever takes the request over."""
        return f"{self.digest}:{self.asked.body}"

    @classmethod
    def parse(cls, request: RequestId, text: str) -> "Held | None":
        """Read the same; None if it says nothing."""
        digest, colon, body = text.partition(":")
        return cls(digest, Asked(request, body)) if digest and colon and body else None


def key_digest(owner: KeyId | None, key: str) -> str:
    """The name of an Idempotency-Key's record, in hex; each client key has keys of its own."""
    return hashlib.sha256(f"{owner or ''}\n{key}".encode()).hexdigest()


def body_digest(endpoint: str, body: bytes) -> str:
    """What tells requests apart that may share an Idempotency-Key, in hex."""
    return hashlib.sha256(endpoint.encode() + b"\n" + body).hexdigest()


class IdempotencyKeys:
    """The records of all keys. Raises BrokerUnavailable or BrokerRefused from every method."""

    def __init__(self, broker: Broker) -> None:
        self._line = broker.line
        self._keys = broker.keys

    async def claim(self, wanted: Held, *, now_ms: int, ttl_ms: int, instead_of: RequestId | None = None) -> Asked:
        """What a key stands for: this, unless it stands for something else. May be repeated.

        Args:
            wanted: the key, and the request that is to be made.
            now_ms: Unix ms on the broker's clock, for people to look at.
            ttl_ms: how long the record lives without being kept.
            instead_of: the request that is given up and may be replaced.
        """
        with broker_errors():
            request, body = await _CLAIM.run(
                self._line,
                [self._keys.idempotency(wanted.digest)],
                [*wanted.asked, now_ms, ttl_ms, instead_of or ""],
            )
        return Asked(RequestId(request.decode(errors="replace")), body.decode(errors="replace"))

    async def find(self, digest: str) -> Asked | None:
        """What a key stands for, by its digest; None if for nothing."""
        with broker_errors():
            request, body = await self._line.say("HMGET", self._keys.idempotency(digest), "request", "body")
        return None if request is None else Asked(RequestId(request.decode(errors="replace")), (body or b"").decode())

    async def keep(self, held: Sequence[Held], ttl_ms: int) -> None:
        """Have these keys stand for these requests for so long from now, but for those that stand for others now."""
        commands = [_KEEP.command([self._keys.idempotency(one.digest)], [*one.asked, ttl_ms]) for one in held]
        if not commands:
            return
        with broker_errors():
            for command, answer in zip(commands, await self._line.ask(commands), strict=True):
                await _KEEP.mend(self._line, command, answer)

    async def drop(self, held: Held) -> None:
        """Have a key stand for a request no longer, if it does."""
        await self.keep([held], 0)
