"""The head of an answer that is relayed: the engine's status and type, and what this grid says of the request."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.records.limits import Quota
from common.types import NodeId, RequestId
from common.wire import Start
from hub.requests.limits import quota_headers

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Whose answer it is, as far as that is known when its head goes."""

    request: RequestId
    quota: Quota | None
    node: NodeId | None
    attempt: int
    queued_ms: int | None
    """From admission to the first claim."""
    more: Mapping[str, str] = field(default_factory=dict)
    """Further headers."""

    def headers(self) -> dict[str, str]:
        """As response headers."""
        headers = {"x-request-id": self.request, "request-id": self.request, **quota_headers(self.quota), **self.more}
        if self.node is not None:
            headers |= {"x-ghub-node": self.node, "x-ghub-attempt": str(self.attempt)}
        if self.queued_ms is not None:
            headers["x-ghub-queue-ms"] = str(self.queued_ms)
        return headers


def stream_head(start: Start | None, stream_type: str, provenance: Provenance) -> tuple[int, Headers]:
    """Status and headers of a stream; before its engine has said anything it is one of `stream_type`."""
    headers = [
        (b"content-type", _content_type(start, stream_type)),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
    ]
    return start.status if start else 200, headers + _encoded(provenance)


def whole_head(start: Start | None, length: int, provenance: Provenance) -> tuple[int, Headers]:
    """Status and headers of an answer of so many bytes."""
    headers = [(b"content-type", _content_type(start, "application/json")), (b"content-length", b"%d" % length)]
    return start.status if start else 200, headers + _encoded(provenance)


def empty_head(provenance: Provenance) -> tuple[int, Headers]:
    """Status and headers where there is nothing to say any more."""
    return 204, _encoded(provenance)


def missing_end(start: Start | None, stream_type: str, stream_end: bytes, tail: bytes) -> bytes:
    """The end of a stream whose last bytes are `tail`, if its engine left it out."""
    is_stream = start is None or start.content_type.startswith(stream_type)
    return b"" if not is_stream or tail.rstrip().endswith(stream_end.rstrip()) else stream_end


def _content_type(start: Start | None, default: str) -> bytes:
    """What the engine calls its answer, where that can stand in a header."""
    told = start.content_type if start else default
    return (told if told.isascii() and told.isprintable() else "application/octet-stream").encode()


def _encoded(provenance: Provenance) -> Headers:
    return [(name.encode(), said.encode()) for name, said in provenance.headers().items()]
