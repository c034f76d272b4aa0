"""Signatures of jobs: who holds `GHUB_SIGNING_KEY` may ask GPUs to work, nobody else.

Canonical form: for each signed field in the order of docs/wire.md, its name, a colon, the length of its value
in bytes as decimal digits, a colon, the value, a newline. The lengths make it unambiguous whatever a body contains.
`sig` is `<key id>:<hex HMAC-SHA256>`; the id lets keys rotate: sign with the first, accept any.
"""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import SecretStr

from common.errors import SettingsError, SignatureError

MIN_SECRET_CHARS = 16


def canonical(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The bytes that are signed for these (name, value) pairs."""
    return b"".join(b"%b:%d:%b\n" % (name, len(value), value) for name, value in fields)


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The keys a process knows: it signs with the first and accepts any. Empty: jobs are unsigned."""

    keys: tuple[tuple[str, bytes], ...] = ()

    @classmethod
    def parse(cls, setting: SecretStr | None, variable: str = "GHUB_SIGNING_KEY") -> "SigningKeys":
        """Read `id:secret[,id:secret ...]`; a lone secret gets the id `k1`.

        Args:
            setting: what was set.
            variable: where it was set, for what is said of it.

        Raises:
            SettingsError: an id twice, or a secret shorter than 16 characters.
        """
        keys: list[tuple[str, bytes]] = []
        for part in (setting.get_secret_value() if setting else "").split(","):
            if not part.strip():
                continue
            name, colon, secret = part.strip().partition(":")
            name, secret = (name, secret) if colon else ("k1", name)
            if not name or len(secret) < MIN_SECRET_CHARS:
                raise SettingsError(
                    f"{variable}: each key is id:secret with at least {MIN_SECRET_CHARS} characters of secret"
                )
            if name in dict(keys):
                raise SettingsError(f"{variable}: the key id {name!r} is there twice")
            keys.append((name, secret.encode()))
        return cls(tuple(keys))

    def __bool__(self) -> bool:
        return bool(self.keys)

    def sign(self, payload: bytes) -> str:
        """`<key id>:<hex>` over canonical bytes; empty without a key."""
        if not self.keys:
            return ""
        name, secret = self.keys[0]
        return f"{name}:{hmac.new(secret, payload, hashlib.sha256).hexdigest()}"

    def verify(self, payload: bytes, sig: str) -> None:
        """Check a signature; without any key everything passes.

        Raises:
            SignatureError: missing, of a key that is not known here, or wrong.
        """
        if not self.keys:
            return
        name, _, digest = sig.partition(":")
        secret = dict(self.keys).get(name)
        if secret is None:
            raise SignatureError(f"signed with the unknown key {name[:40]!r}" if sig else "not signed")
        # as bytes: compare_digest raises TypeError on text that isn't ASCII, and this text comes from outside
        if not hmac.compare_digest(hmac.new(secret, payload, hashlib.sha256).hexdigest().encode(), digest.encode()):
            raise SignatureError(f"the signature of key {name!r} does not match")
