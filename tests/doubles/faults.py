"""What a test can make the test engine do wrong, slowly, or in an unusual shape.

One `Faults` describes one generation. It is the process-wide default (`POST /control/faults`) with the fields
of the request's own `"double"` object laid over it, so one request can misbehave while its neighbours don't.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from typing import Self, get_type_hints


class FaultsError(ValueError):
    """A fault that does not exist or has a value of the wrong type: a mistake in a test, so never ignored."""


class Break(StrEnum):
    """A way for a generation to end too early; the value names the field of `Faults` that sets its place."""

    STALL = "stall_after"
    CUT = "cut_after"
    EXIT = "exit_after"
    ERROR_EVENT = "error_event_after"


@dataclass(frozen=True, slots=True)
class Faults:
    """One generation's behaviour. The defaults are a well-behaved engine without any delay."""

    # Time
    delay_ms: int | float = 0
    """Between token events. A write of k events waits k times as long, so the token rate stays the same."""
    first_byte_ms: int | float = 0
    """Before the response headers."""
    prefill_ms: int | float = 0
    """Between the headers and the first event; of a non-streamed answer, before the headers."""
    hang: bool = False
    """Accept the request and never answer."""

    # Endings: after this many tokens of this answer. Where several are set, the earliest happens.
    stall_after: int | None = None
    """Send nothing more, for ever."""
    cut_after: int | None = None
    """Drop the TCP connection."""
    exit_after: int | None = None
    """End the whole process at once."""
    error_event_after: int | None = None
    """Send an error event, then [DONE] (vLLM's way); of a non-streamed answer, status 500."""
    close_without_done: bool = False
    """End the response cleanly but without [DONE]."""

    # Answers other than the one hoped for
    status: int | None = None
    """Refuse with this HTTP status."""
    error_body: str | None = None
    """Refuse with these bytes (and `status`, or 500) instead of an error object: a proxy's HTML page, say."""
    bad_json: bool = False
    """A non-streamed answer is cut-off JSON; of a streamed one the first token's event is."""
    probes: bool = False
    """Let /health and /v1/models refuse, hang, be late or garbled too (process-wide default only)."""

    # The shape on the wire
    per_write: int = 1
    """Events joined into one write."""
    split_bytes: int | None = None
    """Write at most this many bytes at a time."""
    event_bytes: int | None = None
    """Pad each token event to about this size."""
    crlf: bool = False
    """Events end in CR LF CR LF."""
    comments: bool = False
    """Put an SSE comment before every fourth write of tokens, the first included."""
    same_each_time: bool = False
    """Ids, times and fingerprints are fixed, so that two answers to one request are the same bytes."""

    def __post_init__(self) -> None:
        for name, kind in _kinds().items():
            value = getattr(self, name)
            # True would pass for the number 1.
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise FaultsError(f"{name} must be {kind}, got {value!r}")
            # A size of nothing would never get an event out of the door.
            least = 1 if name in {"per_write", "split_bytes"} else 0
            if isinstance(value, int | float) and value < least:
                raise FaultsError(f"{name} must be at least {least}, got {value!r}")

    def overlaid(self, fields: object) -> Self:
        """Return these faults with the fields of a JSON object on top; raises FaultsError."""
        if not isinstance(fields, Mapping):
            raise FaultsError(f"faults must be an object, got {fields!r}")
        if unknown := fields.keys() - _kinds().keys():
            raise FaultsError(f"unknown faults: {', '.join(sorted(unknown))}")
        return replace(self, **fields)

    @property
    def is_refusing(self) -> bool:
        return self.status is not None or self.error_body is not None

    def first_break(self, count: int) -> tuple[int, Break | None]:
        """Say how many of `count` tokens are sent, and which break follows them (None: the regular end)."""
        reached, first = count, None
        for kind in Break:
            place = getattr(self, kind)
            if place is not None and (place < reached or (place == reached and first is None)):
                reached, first = place, kind
        return reached, first


@cache
def _kinds() -> dict[str, type]:
    return get_type_hints(Faults)
