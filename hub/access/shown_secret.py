"""The secret that a request shows."""

from collections.abc import Mapping


def shown_secret(headers: Mapping[str, str]) -> str:
    """The secret a request shows, `Authorization: Bearer` first, then `x-api-key`; empty if none."""
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()
