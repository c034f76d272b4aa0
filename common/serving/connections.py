"""Connections of clients: how many there may be, and how slowly and at what length they may say what they want.

uvicorn bounds none of it: whoever opens connections and says nothing, or sends headers without end, costs it files and
memory for ever. Bodies have limits of their own (see `common.serving.bodies.collect_body`).
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

HEAD_TIMEOUT_S = 30.0
"""For a request's line and headers, and for a new connection's first byte."""
MAX_HEAD_BYTES = 64 * 2**10
"""For a request's line and headers; what one read brought at once may exceed it."""
TURNED_AWAY_AT_ONCE = 100
"""Of the connections beyond the limit, so many are heard and answered; the others are cut off."""


@dataclass(slots=True)
class Door:
    """What all connections of a server must know of it."""

    is_closing: bool = False
    """Whether each answer from now on ends its connection."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many connections there may be, and what the further ones hear."""

    max_connections: int
    turn_away: ASGIApp
    """Answers the first request of each of them; should close its connection."""


class Connection(HttpToolsProtocol):
    """One connection. All but `door` and `crowd` are uvicorn's arguments."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        door: Door,
        crowd: Crowd | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._door = door
        self._crowd = crowd
        self._head_bytes = 0
        self._head_due: asyncio.TimerHandle | None = None
        self._has_asked = False

    @property
    def awaits_a_head(self) -> bool:
        """Whether a request's head is awaited: the first one, or one of which a part is there."""
        return self._head_due is not None and (self._head_bytes > 0 or not self._has_asked)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Begin, or end at once where there are far too many."""
        super().connection_made(transport)
        self._expect_head()
        if self._crowd is None or len(self.connections) <= self._crowd.max_connections:
            return
        self.app = self._crowd.turn_away
        if len(self.connections) > self._crowd.max_connections + TURNED_AWAY_AT_ONCE:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._forget_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, and give up a head that is too long."""
        super().data_received(data)
        if self._head_due is None:
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, "header_too_long", f"a request's line and headers may have {MAX_HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        """A request has said what it wants."""
        self._forget_head()
        super().on_headers_complete()
        self._has_asked = True
        if self._door.is_closing:
            self.cycle.keep_alive = False

    def say_goodbye(self) -> None:
        """Let the answer that is awaited, if there is one, tell its client that it is the last here."""
        if self._has_asked and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(400, "invalid_http", msg)

    def _expect_head(self) -> None:
        if self._head_due is None:
            self._head_due = self.loop.call_later(HEAD_TIMEOUT_S, self._head_is_late)

    def _forget_head(self) -> None:
        self._head_bytes = 0
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _head_is_late(self) -> None:
        self._head_due = None
        if self.transport.is_closing():
            return
        if self._head_bytes:
            self._refuse(408, "header_timeout", f"the request's head did not come within {HEAD_TIMEOUT_S:g} s")
        else:  # an answer would be taken for that to a request that is just under way
            self.transport.close()

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer in OpenAI's shape, since which API was meant is not known, and close."""
        self._forget_head()
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        body = orjson.dumps({"error": error})
        head = f"HTTP/1.1 {status} Refused\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
        self.transport.close()
