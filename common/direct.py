"""Direct calls: whoever holds one of `GHUB_HUB_DIRECT_KEYS` may call a provider straight over HTTP.

The caller sends `X-Inferoute-HMAC: v1:<key id>:<Unix seconds when made>:<nonce>:<hex HMAC-SHA256>`. The HMAC is over
the canonical form (see `common.signing`) of purpose, node, endpoint, body_sha256 (lower case hex), time and nonce, in
this order: good at one node, for one path and one body, for a while, and once. These keys are not the signing key: who
may call a provider directly need not be able to forge jobs.
"""

import re
import secrets
from dataclasses import dataclass

from common.errors import DirectRefused, SignatureError
from common.signing import SigningKeys, canonical
from common.types import DirectRefusal

HEADER = "X-Inferoute-HMAC"
PURPOSE = b"ghub-direct-v1"
"""Signed along, so that no signature made for anything else can ever pass for one of these."""
SKEW_S = 30
"""How far the caller's clock may be ahead of the broker's, s."""
_FORM = re.compile(
    r"v1:(?P<key_id>[!-9;-~]{1,64}):(?P<made_at_s>[0-9]{1,12}):(?P<nonce>[A-Za-z0-9_-]{16,64}):(?P<digest>[0-9a-f]{64})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class DirectCall:
    """What a caller asks of one provider."""

    node: str
    endpoint: str
    """The path, e.g. `/v1/chat/completions`."""
    body_sha256: str
    """Lower case hex."""

    def payload(self, made_at_s: str, nonce: str) -> bytes:
        """The bytes that are signed."""
        texts = {
            b"node": self.node,
            b"endpoint": self.endpoint,
            b"body_sha256": self.body_sha256,
            b"time": made_at_s,
            b"nonce": nonce,
        }
        return canonical([(b"purpose", PURPOSE), *((name, text.encode()) for name, text in texts.items())])


@dataclass(frozen=True, slots=True)
class Nonce:
    """What a good HMAC uses up."""

    key_id: str
    value: str


def sign_direct(keys: SigningKeys, call: DirectCall, now_s: int) -> str:
    """The header's value for a call, signed with the first of the keys, which must not be empty; `now_s`: Unix time."""
    made_at_s, nonce = str(now_s), secrets.token_urlsafe(16)
    key_id, _, digest = keys.sign(call.payload(made_at_s, nonce)).partition(":")
    return f"v1:{key_id}:{made_at_s}:{nonce}:{digest}"


def verify_direct(keys: SigningKeys, call: DirectCall, header: str, *, now_s: float, window_s: float) -> Nonce:
    """Check all of an HMAC but whether it was used before.

    Args:
        keys: the direct keys; any of them will do.
        call: what the provider was asked.
        header: the value that came with it.
        now_s: Unix time on the broker's clock.
        window_s: how old it may be.

    Returns:
        The nonce, which the caller of this must use up before the call is let through.

    Raises:
        DirectRefused: it is not accepted; the signature is judged first, so that strangers learn nothing of clocks.
    """
    if not keys:
        raise DirectRefused(
            DirectRefusal.DIRECT_KEYS_NOT_SET, "no direct call is accepted: set GHUB_HUB_DIRECT_KEYS on the hubs"
        )
    form = _FORM.fullmatch(header)
    if form is None:
        raise DirectRefused(
            DirectRefusal.MALFORMED, f"{HEADER} is v1:<key id>:<Unix seconds>:<nonce>:<hex HMAC-SHA256>"
        )
    key_id, made_at_s, nonce, digest = form.group("key_id", "made_at_s", "nonce", "digest")
    if key_id not in dict(keys.keys):
        raise DirectRefused(DirectRefusal.UNKNOWN_KEY, f"no direct key has the id {key_id!r}")
    try:
        keys.verify(call.payload(made_at_s, nonce), f"{key_id}:{digest}")
    except SignatureError as exc:
        raise DirectRefused(
            DirectRefusal.WRONG, "the HMAC is not of this node, endpoint, body, time and nonce"
        ) from exc
    age_s = now_s - int(made_at_s)
    if not -SKEW_S <= age_s <= window_s:
        when = f"{age_s:.0f} s old, more than {window_s:g} s" if age_s > 0 else f"made {-age_s:.0f} s in the future"
        raise DirectRefused(DirectRefusal.EXPIRED, f"the HMAC is {when}; is the caller's clock right?")
    return Nonce(key_id, nonce)
