"""Client API keys and provider tokens as the broker keeps them: by the sha256 of the secret, never the secret."""

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import orjson

from common.broker.broker import Broker
from common.broker.errors import broker_errors
from common.broker.shapes import hashes_of
from common.errors import BrokerRefused
from common.types import KeyId, Lane, ModelId, TokenId

KEY_HEAD = "ghub-"
TOKEN_HEAD = "ghubp-"  # noqa: S105 - what every provider token begins with, so that people and scanners know one
_ID_CHARS = 16


def digest_of(secret: str) -> str:
    """The sha256 of a secret in hex. Secrets are random and long: nothing slower is needed to keep them."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A client's API key. None: no limit."""

    digest: str
    name: str
    created_at: int
    """Unix ms."""
    models: tuple[str, ...] = ()
    """Names or patterns (`llama*`) of the models it may use; empty: all."""
    rpm: int | None = None
    """Requests a minute."""
    tpm: int | None = None
    """Prompt and completion tokens a minute."""
    concurrency: int | None = None
    """Requests that may be with providers at once; more wait for their turn."""
    lane: Lane = Lane.INTERACTIVE
    """The most urgent lane it may use, and the one it uses if a request asks for none."""
    expires_at: int | None = None
    """Unix ms."""

    @property
    def id(self) -> KeyId:
        """What it is called in listings and in other keys."""
        return KeyId(self.digest[:_ID_CHARS])

    def allows(self, model: ModelId) -> bool:
        """Whether it may use a model."""
        return not self.models or any(fnmatchcase(model, pattern) for pattern in self.models)

    def is_expired(self, now_ms: int) -> bool:
        """Whether it is no longer good."""
        return self.expires_at is not None and now_ms >= self.expires_at

    def to_hash(self) -> dict[Any, Any]:
        """The fields of its hash; what is None is left out."""
        fields = {name: getattr(self, name) for name in self.__slots__ if name != "models"}
        return {name: value for name, value in fields.items() if value is not None} | {
            "models": orjson.dumps(self.models)
        }

    @classmethod
    def from_hash(cls, raw: Mapping[Any, Any]) -> "ClientKey | None":
        """Read a hash; None if it is no key of a version that can be read here."""
        try:
            text = {name.decode(): value.decode() for name, value in raw.items()}
            return cls(
                digest=text["digest"],
                name=text["name"],
                created_at=int(text["created_at"]),
                models=tuple(str(one) for one in orjson.loads(text["models"])),
                rpm=_number(text, "rpm"),
                tpm=_number(text, "tpm"),
                concurrency=_number(text, "concurrency"),
                lane=Lane(text["lane"]),
                expires_at=_number(text, "expires_at"),
            )
        except (KeyError, ValueError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class ProviderToken:
    """A token that lets machines join as providers."""

    digest: str
    name: str
    created_at: int
    """Unix ms."""

    @property
    def id(self) -> TokenId:
        """What it is called in listings and in the nodes it let in."""
        return TokenId(self.digest[:_ID_CHARS])

    def to_hash(self) -> dict[Any, Any]:
        """The fields of its hash."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_hash(cls, raw: Mapping[Any, Any]) -> "ProviderToken | None":
        """Read a hash; None if it is no token of a version that can be read here."""
        try:
            text = {name.decode(): value.decode() for name, value in raw.items()}
            return cls(text["digest"], text["name"], int(text["created_at"]))
        except (KeyError, ValueError):
            return None


def new_secret(head: str) -> str:
    """A secret of 256 random bits behind a head that tells what it is."""
    return head + secrets.token_urlsafe(32)


Kind = TypeVar("Kind", ClientKey, ProviderToken)


class Credentials:
    """Every key and token. Raises BrokerUnavailable or BrokerRefused from every method."""

    def __init__(self, broker: Broker) -> None:
        self._commands = broker.commands
        self._line = broker.line
        self._keys = broker.keys

    async def version(self) -> int:
        """A number that rises with each change."""
        with broker_errors():
            said: Any = await self._commands.get(self._keys.credentials)
        try:
            return int(said or 0)
        except ValueError as exc:  # no hub wrote this, and it must not end any
            raise BrokerRefused(f"{self._keys.credentials} is no number: delete it") from exc

    async def client_keys(self) -> list[ClientKey]:
        """Every client key, expired ones too."""
        return await self._read(ClientKey, self._keys.keys, self._keys.key)

    async def provider_tokens(self) -> list[ProviderToken]:
        """Every provider token."""
        return await self._read(ProviderToken, self._keys.tokens, self._keys.token)

    async def add_key(self, key: ClientKey) -> None:
        """Let a client key in."""
        await self._write(self._keys.key(key.digest), self._keys.keys, key)

    async def add_token(self, token: ProviderToken) -> None:
        """Let a provider token in."""
        await self._write(self._keys.token(token.digest), self._keys.tokens, token)

    async def remove_key(self, digest: str) -> None:
        """Let a client key in no more."""
        await self._remove(self._keys.key(digest), self._keys.keys, digest)

    async def remove_token(self, digest: str) -> None:
        """Let a provider token in no more."""
        await self._remove(self._keys.token(digest), self._keys.tokens, digest)

    async def restore(self, keys: Sequence[ClientKey], tokens: Sequence[ProviderToken], version: int) -> None:
        """Write everything back into a broker that has forgotten it.

        The counter comes last: whoever sees it sees all the rest, and who still sees none writes the same once more.
        """
        pipe = self._commands.pipeline(transaction=False)
        for key in keys:
            pipe.hset(self._keys.key(key.digest), mapping=key.to_hash())
            pipe.sadd(self._keys.keys, key.digest)
        for token in tokens:
            pipe.hset(self._keys.token(token.digest), mapping=token.to_hash())
            pipe.sadd(self._keys.tokens, token.digest)
        pipe.set(self._keys.credentials, version)
        with broker_errors():
            await pipe.execute()

    async def _read(self, kind: type[Kind], index: str, key_of: Callable[[str], str]) -> list[Kind]:
        with broker_errors():
            digests: Any = await self._commands.smembers(index)
            hashes = await hashes_of(self._line, [key_of(one.decode(errors="replace")) for one in sorted(digests)])
        return [record for raw in hashes if (record := kind.from_hash(raw)) is not None]

    async def _write(self, key: str, index: str, record: ClientKey | ProviderToken) -> None:
        pipe = self._commands.pipeline(transaction=False)
        pipe.hset(key, mapping=record.to_hash())
        pipe.sadd(index, record.digest)
        pipe.incr(self._keys.credentials)
        with broker_errors():
            await pipe.execute()

    async def _remove(self, key: str, index: str, digest: str) -> None:
        pipe = self._commands.pipeline(transaction=False)
        pipe.delete(key)
        pipe.srem(index, digest)
        pipe.incr(self._keys.credentials)
        with broker_errors():
            await pipe.execute()


def _number(text: Mapping[str, str], name: str) -> int | None:
    return int(text[name]) if name in text else None
