"""What travels through the broker, version 1: jobs to providers, and reply entries back.

Orders to providers stand in `common.orders`.

Flat stream fields, readable with XRANGE. A reply entry's stream id is `<attempt>-<n>`: the broker itself refuses
what comes twice and what an overtaken attempt still says. `0-1` is the hub's own, when it opens the reply.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, get_type_hints

import orjson

from common.errors import WireError
from common.settings import NAME_PATTERN
from common.signing import SigningKeys, canonical
from common.types import ModelId, NodeId, RequestId

VERSION = b"1"
OPENING_ID = "0-1"
MAX_ATTEMPT = 2**31
"""Far below what half a stream id holds: an id the broker refuses would fail the pipeline it travels in."""
MAX_TOKENS = 2**31
"""Of one request. More can be added to no account of it: the broker would refuse the whole portion, again and again."""
_NO_BODY = frozenset({204, 205, 304})
"""Statuses of answers that end with their head: a body behind one would be read as the connection's next answer."""
_NODE_NAME = re.compile(NAME_PATTERN)
NOT_SUPPORTED = "endpoint_not_supported"
"""The code of a failure: this engine lacks the path. Nothing was tried there, and another one may have it."""
CANNOT_CONTINUE = "cannot_continue"
"""The code of a failure: the answer has begun, and what came of it is not of a kind that can be gone on with."""
RELEASED_BY_RESTART = "restarted"
"""The release reason of a job whose provider process died under it: it may have been the job's fault."""


@dataclass(frozen=True, slots=True)
class Job:
    """A request as published to a lane.

    `body` is the client's own bytes. `deadline_ms` (broker's clock, Unix ms) is the moment after which the job must
    no longer be started. `trace` is a W3C traceparent or empty. `sig` is empty until `signed`.
    """

    id: RequestId
    attempt: int
    model: ModelId
    endpoint: str
    stream: bool
    body: bytes
    reply: str
    deadline_ms: int
    trace: str = ""
    sig: str = ""

    def signed(self, keys: SigningKeys) -> "Job":
        """The same job with the signature of these keys (an empty one where there are none)."""
        return replace(self, sig=keys.sign(canonical(self._signed_fields().items())))

    def verify(self, keys: SigningKeys) -> None:
        """Raise SignatureError unless one of these keys signed every field."""
        keys.verify(canonical(self._signed_fields().items()), self.sig)

    def to_fields(self) -> dict[bytes, bytes]:
        """The stream fields."""
        return {**self._signed_fields(), b"sig": self.sig.encode()}

    def _signed_fields(self) -> dict[bytes, bytes]:
        return {
            b"v": VERSION,
            b"id": self.id.encode(),
            b"attempt": b"%d" % self.attempt,
            b"model": self.model.encode(),
            b"endpoint": self.endpoint.encode(),
            b"stream": b"1" if self.stream else b"0",
            b"body": self.body,
            b"reply": self.reply.encode(),
            b"deadline": b"%d" % self.deadline_ms,
            b"trace": self.trace.encode(),
        }

    @classmethod
    def from_fields(cls, fields: Mapping[bytes, bytes]) -> "Job":
        """Read a lane entry.

        Raises:
            WireError: a field is missing or no number, or the version is not ours.
        """
        try:
            if fields[b"v"] != VERSION:
                raise WireError(f"job of wire version {fields[b'v'][:20]!r}, this side speaks {VERSION!r}")
            if not 1 <= int(fields[b"attempt"]) <= MAX_ATTEMPT:
                raise WireError("job with an attempt that no entry's id can carry")
            job = cls(
                id=RequestId(fields[b"id"].decode()),
                attempt=int(fields[b"attempt"]),
                model=ModelId(fields[b"model"].decode()),
                endpoint=fields[b"endpoint"].decode(),
                stream=fields[b"stream"] == b"1",
                body=fields[b"body"],
                reply=fields[b"reply"].decode(),
                deadline_ms=int(fields[b"deadline"]),
                trace=fields[b"trace"].decode(),
                sig=fields.get(b"sig", b"").decode(),
            )
        except KeyError as exc:
            raise WireError(f"job without the field {exc.args[0]!r}") from exc
        except ValueError as exc:
            raise WireError(f"job with an unreadable field: {exc}") from exc
        # what is signed are the bytes that hubs write: 01 for 1 would be another job with the same signature
        changed = [name.decode() for name, value in job._signed_fields().items() if fields[name] != value]
        if changed:
            raise WireError(f"job with a field that no hub writes so: {', '.join(changed)}")
        return job


class EntryId(NamedTuple):
    """Id of a reply entry; compares as the broker compares."""

    attempt: int
    n: int

    def __str__(self) -> str:
        return f"{self.attempt}-{self.n}"

    @classmethod
    def parse(cls, raw: bytes) -> "EntryId":
        """Read `<attempt>-<n>` as the broker sends it."""
        attempt, _, n = raw.partition(b"-")
        return cls(int(attempt), int(n))


LAST_WORD = EntryId(MAX_ATTEMPT, 0)
"""A hub's own entry that ends a request: after it the broker takes nothing of what any attempt still says."""


@dataclass(frozen=True, slots=True)
class Start:
    """The engine's answer has begun: its HTTP status and content type, and the node it runs on.

    `after`: the newest entry with data of earlier attempts, which a stream goes on behind; empty where it begins.
    """

    status: int
    content_type: str
    node: NodeId
    after: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the engine counted them; None where it did not say.

    `is_estimate`: it did not say, and `completion_tokens` is how many events of the stream brought text.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    is_estimate: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed. `status` and `code` are what a client would see; `retryable`: another attempt may work."""

    status: int
    code: str
    message: str
    retryable: bool = False
    type: str = "server_error"
    param: str | None = None


_NO_HEAD, _NO_END = (None, None), (None, None, None)


class ReplyEntry(NamedTuple):
    """One entry of a reply; any of the parts may be there, and a short answer has them all at once.

    `claim` (the node that took the job) opens each attempt at n = 0, before the engine is asked; `data` holds whole
    events only; `release` gives the job back with a reason; `end`, `error` and `release` are the last of an attempt.
    """

    claim: NodeId | None = None
    start: Start | None = None
    data: bytes = b""
    end: Usage | None = None
    error: Failure | None = None
    release: str | None = None

    @property
    def is_data(self) -> bool:
        """Whether it holds nothing but data, as nearly all do."""
        return self[:2] == _NO_HEAD and self[3:] == _NO_END

    def to_fields(self) -> dict[bytes, bytes]:
        """The stream fields, `start` before `data` before `end` for the eye."""
        fields: dict[bytes, bytes] = {}
        if self.claim is not None:
            fields[b"claim"] = self.claim.encode()
        if self.start is not None:
            fields[b"start"] = orjson.dumps(self.start)
        if self.data:
            fields[b"data"] = self.data
        if self.end is not None:
            fields[b"end"] = orjson.dumps(self.end)
        if self.error is not None:
            fields[b"error"] = orjson.dumps(self.error)
        if self.release is not None:
            fields[b"release"] = self.release.encode()
        return fields

    @classmethod
    def read(cls, flat: Sequence[bytes]) -> "ReplyEntry":
        """Read a reply entry from name, value, name, value …; WireError as `from_fields`."""
        if len(flat) == 2 and flat[0] == b"data":  # nearly all of them
            return cls(data=flat[1])
        return cls.from_fields(dict(zip(flat[::2], flat[1::2], strict=True)))

    @classmethod
    def from_fields(cls, fields: Mapping[bytes, bytes]) -> "ReplyEntry":
        """Read a reply entry; fields of later versions are passed over.

        Raises:
            WireError: a part is not what it should be.
        """
        try:
            return cls(
                claim=_node(fields[b"claim"]) if b"claim" in fields else None,
                start=Start(**_known(Start, fields[b"start"])) if b"start" in fields else None,
                data=fields.get(b"data", b""),
                end=Usage(**_known(Usage, fields[b"end"])) if b"end" in fields else None,
                error=Failure(**_known(Failure, fields[b"error"])) if b"error" in fields else None,
                release=fields[b"release"].decode() if b"release" in fields else None,
            )
        except (ValueError, TypeError) as exc:
            raise WireError(f"unreadable reply entry: {exc}") from exc


_KINDS: dict[type, dict[str, Any]] = {
    shape: {name: getattr(kind, "__supertype__", kind) for name, kind in get_type_hints(shape).items()}
    for shape in (Start, Usage, Failure)
}


_STATUSES: dict[type, range] = {Start: range(200, 600), Failure: range(400, 600)}
"""Below 200 another head follows; an error under another status would pass for an answer."""


def _node(raw: bytes) -> NodeId:
    """A node's name, which goes into a header of the answer."""
    if _NODE_NAME.fullmatch(name := raw.decode()) is None:
        raise WireError("claimed by what is no node's name")
    return NodeId(name)


def _known(shape: type, raw: bytes) -> dict[str, Any]:
    value = orjson.loads(raw)
    if not isinstance(value, dict):
        raise WireError(f"{shape.__name__} is no object")
    known = {name: value[name] for name in _KINDS[shape] if name in value}
    for name, one in known.items():
        kind = _KINDS[shape][name]
        if not isinstance(one, kind) or (isinstance(one, bool) and kind is not bool):  # True is an int to Python
            raise WireError(f"{shape.__name__}.{name} is of the wrong type")
        if name.endswith("_tokens") and one is not None and not 0 <= one <= MAX_TOKENS:
            raise WireError(f"{shape.__name__}.{name} is no number of tokens")
    status = known.get("status")
    if status is not None and (status not in _STATUSES[shape] or status in _NO_BODY):
        raise WireError(f"{shape.__name__}.status is no HTTP status that it can have")
    return known
