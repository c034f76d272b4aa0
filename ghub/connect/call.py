"""One client's call: what it asks, and how much of the answer it has."""

import asyncio
import re
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import uuid4

import aiohttp
from pydantic import SecretStr
from starlette.types import Scope

from common.endpoints import ENDPOINTS
from common.types import RequestId
from ghub.connect.headers import Headers, request_headers
from ghub.connect.hubs import Hub
from hub.api.entry_frames import ENTRIES_HEADER
from hub.api.shape import ApiShape
from hub.api.shapes import stream_shape_of
from hub.api.wishes import IDEMPOTENCY_HEADER, POSITION_HEADER, RESUMABLE_HEADER

LOOKS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing, and have no body."""
_ANSWER = re.compile(r"/v1/requests/([0-9a-f]{32})/stream")
_WHO = ("authorization", "x-api-key", "via")


class Question(NamedTuple):
    """What a hub is asked."""

    method: str
    target: str
    headers: Headers
    body: bytes | None


@dataclass(slots=True, eq=False)
class Call:
    """A call that becomes a job, or that reads the answer of one."""

    question: Question
    """As the client asked it, with the key and the wishes of this front."""
    shape: ApiShape
    own_key: str | None
    """The Idempotency-Key that this front made: then the request is to end with its client."""
    may_repeat: bool = True
    """Whether the question may go to another hub though one may have heard it."""
    is_job: bool = True
    """Whether its answer is kept by the grid, so that the rest of it can be had."""
    request: RequestId | None = None
    """Once a hub has told it."""
    entry: str = ""
    """The last entry of the stream that the client has all of."""
    length: int | None = None
    """Of a whole answer, bytes."""
    sent_bytes: int = 0
    """Of a whole answer, those that the client has."""
    has_begun: bool = False
    """Whether the client has heard anything."""
    was_asked: bool = False
    """Whether a hub may know of it."""
    has_moved: bool = False
    """Whether it has heard more since this was last looked at."""
    is_stream: bool = False
    """Whether its answer is told entry by entry."""
    is_over: bool = False
    """Whether the grid has nothing more to do for it."""
    is_gone: bool = False
    """Whether the client has left."""
    hub: Hub | None = None
    """Which one is asked now."""
    waits_since: float | None = None
    """Since when nothing has come that is waited for, on the loop's clock."""
    clock: asyncio.Timeout | None = None
    """Ends the wait for the beginning of an answer."""
    response: aiohttp.ClientResponse | None = None
    """The answer that is being read."""
    telling: "asyncio.Task[None] | None" = field(default=None, repr=False)

    @property
    def who(self) -> list[tuple[str, str]]:
        """The headers that say who asks."""
        return [(name, said) for name in _WHO for said in self.question.headers.getall(name, ())]

    @property
    def is_under_way(self) -> bool:
        """Whether the client has heard what only this request can go on with; comments are none of it.

        One that may come back by itself was told the request's id with the first word.
        """
        return bool(self.entry or self.sent_bytes) or (self.has_begun and self.own_key is None)

    def next_question(self) -> Question:
        """What the next hub is asked: the same again until the answer has begun, then for the rest of it."""
        if not self.is_under_way:
            return self.question
        headers = Headers(self.who)
        headers[ENTRIES_HEADER] = "1"
        headers[RESUMABLE_HEADER] = self.question.headers.get(RESUMABLE_HEADER, "0")
        if self.entry:
            headers[POSITION_HEADER] = self.entry
        return Question("GET", f"/v1/requests/{self.request}/stream", headers, None)

    def forget_body(self) -> None:
        """What was asked will not be asked again."""
        if self.question.body is not None:
            self.question = self.question._replace(body=None)

    def is_silent(self, now: float, stall_s: float) -> bool:
        """Whether a hub is waited for that says nothing, as none does in a stream, or gives no sign of life at all."""
        if self.waits_since is None or self.hub is None:
            return False
        since = self.waits_since if self.is_stream else max(self.waits_since, self.hub.answered_at)
        return now - since > stall_s

    def cut(self) -> None:
        """End the wait: the hub will not be heard any more."""
        if self.clock is not None:
            self.clock.reschedule(0)
        elif self.response is not None:
            self.response.close()


def make_call(scope: Scope, body: bytes | None, api_key: SecretStr | None) -> Call:
    """A client's request as this front asks it: kept by the grid where it becomes a job, and told entry by entry.

    A client that wants to come back for its answer itself hears the ids of events, and what it asked for goes on
    without it.
    """
    path, method = scope["path"], scope["method"]
    shape = stream_shape_of(path)
    headers = request_headers(scope["headers"], api_key)
    question = Question(method, _target(scope), headers, body)
    if method == "POST" and path in ENDPOINTS:
        headers.popall("accept-encoding", None)
        headers[ENTRIES_HEADER] = "1"
        wants_ids = IDEMPOTENCY_HEADER in headers or headers.get(RESUMABLE_HEADER) == "1"
        headers[RESUMABLE_HEADER] = "1" if wants_ids else "0"
        key = headers.setdefault(IDEMPOTENCY_HEADER, uuid4().hex)
        return Call(question, shape, None if wants_ids else key)
    if method == "GET" and (found := _ANSWER.fullmatch(path)):
        headers[ENTRIES_HEADER] = headers[RESUMABLE_HEADER] = "1"
        return Call(question, shape, None, request=RequestId(found[1]))
    return Call(question, shape, None, may_repeat=method in LOOKS, is_job=False)


def _target(scope: Scope) -> str:
    """Path and query as the client wrote them."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return (path + (b"?" + query if query else b"")).decode("latin-1")
