"""What a client says in headers of the life of its request: whether it may come back for it, and who may go on."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from hub.errors import InvalidRequest
from hub.requests.wishes import Wishes

Value = TypeVar("Value")

RESUMABLE_HEADER = "x-ghub-resumable"
FAILOVER_HEADER = "x-ghub-failover"
IDEMPOTENCY_HEADER = "idempotency-key"
POSITION_HEADER = "last-event-id"
REPLAYED_HEADER = "idempotent-replayed"
"""Of an answer: another call with the same key made the request."""
_KEY = re.compile(r"[\x20-\x7e]{1,255}", re.ASCII)


class Said(NamedTuple):
    """What the headers say."""

    wishes: Wishes
    idempotency_key: str | None


def wishes_in(headers: Mapping[str, str]) -> Said:
    """Read the headers; InvalidRequest if one says what it cannot say."""
    key = read_header(headers, IDEMPOTENCY_HEADER, _key)
    is_resumable = read_header(headers, RESUMABLE_HEADER, _one_of({"1": True, "0": False})) or key is not None
    may_continue = read_header(headers, FAILOVER_HEADER, _one_of({"on": True, "off": False}))
    return Said(Wishes(is_resumable=is_resumable, may_continue=may_continue is not False), key)


def read_header(headers: Mapping[str, str], name: str, read: Callable[[str], Value]) -> Value | None:
    """What a header says; None without it.

    Raises:
        InvalidRequest: it says something else than it may.
    """
    said = headers.get(name)
    if said is None:
        return None
    try:
        return read(said)
    except ValueError as exc:
        raise InvalidRequest(f"The header {name}: {exc}", code="invalid_header", param=name) from exc


def _key(said: str) -> str:
    if _KEY.fullmatch(said) is None:
        raise ValueError("expected 1 to 255 printable ASCII characters")
    return said


def _one_of(words: Mapping[str, bool]) -> Callable[[str], bool]:
    def read(said: str) -> bool:
        if said not in words:
            raise ValueError(f"expected {' or '.join(map(repr, words))}")
        return words[said]

    return read
