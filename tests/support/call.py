"""HTTP calls as plain as can be: each on a socket of its own, readable piece by piece, and droppable at any moment."""

import http.client
import json
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from tests.doubles.reading import events_in, said_in

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is over: whole, or as far as it came."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def said(self) -> str:
        """The text of the tokens, of a stream or of a whole answer."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            return said_in(self.text)
        choice = self.json["choices"][0]
        return str(choice["text"] if "text" in choice else choice["message"]["content"])

    @property
    def fingerprint(self) -> str:
        """Which engine process said it."""
        is_stream = self.headers.get("content-type", "").startswith("text/event-stream")
        return str((events_in(self.text)[0] if is_stream else self.json)["system_fingerprint"])

    @property
    def error(self) -> dict[str, Any]:
        """The error it ends with, checked for OpenAI's shape; AssertionError if there is none."""
        is_stream = self.headers.get("content-type", "").startswith("text/event-stream")
        found = events_in(self.text)[-1] if is_stream else self.json
        error = found.get("error")
        assert isinstance(error, dict), f"no error in {self.text[-500:]!r}"
        assert set(error) == {"message", "type", "param", "code"}, error
        assert isinstance(error["message"], str), error
        assert error["message"], error
        assert isinstance(error["type"], str), error
        assert error["type"], error
        assert isinstance(error["code"], str), error
        assert error["code"], error
        assert error["param"] is None or isinstance(error["param"], str), error
        return error

    @property
    def is_ended_once(self) -> bool:
        """Whether [DONE] is there once, as the last thing."""
        return self.text.count("[DONE]") == 1 and self.text.rstrip().endswith("data: [DONE]")


class Call:
    """One call. Its body goes out at once; the answer is read as the test asks for it."""

    open: ClassVar[set["Call"]] = set()
    """Calls that are not closed: a test that fails leaves them behind."""

    def __init__(
        self,
        url: str,
        body: bytes | Mapping[str, Any] | Iterable[bytes] | None = None,
        *,
        path: str = CHAT,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        within_s: float = 30,
        receive_buffer_bytes: int | None = None,
    ) -> None:
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=within_s)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer_bytes is not None:  # only before it connects does this bound the window
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(within_s)
        self._connection.sock = self.socket
        self._text = ""
        self._answered: http.client.HTTPResponse | None = None
        self.open.add(self)
        sent: Any = json.dumps(body).encode() if isinstance(body, Mapping) else body
        try:
            self.socket.connect((address.hostname, address.port))
            self._connection.request(method, path, sent, {"content-type": "application/json", **(headers or {})})
        except OSError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _response(self) -> http.client.HTTPResponse:
        # No cached_property: until Python 3.12 all instances share its lock, and calls in threads wait for each other.
        if self._answered is None:
            self._answered = self._connection.getresponse()
        return self._answered

    @property
    def status(self) -> int:
        """Waits for the status line."""
        return self._response.status

    @property
    def text(self) -> str:
        """What has been read of the answer."""
        return self._text

    @property
    def request(self) -> str:
        """The request's id, as the head of the answer tells it."""
        return self._response.headers["x-request-id"]

    def wait_for(self, text: str) -> str:
        """Read on until this has come, which must be within one line; all that has come.

        AssertionError if the answer ends before.
        """
        found = text in self._text
        while not found:
            line = self._response.readline().decode()
            assert line, f"the answer ended without {text!r}: {self._text[-500:]!r}"
            self._text += line
            found = text in line
        return self._text

    def read_some(self) -> bool:
        """Read what one read gives; False at the end."""
        piece = self._response.read1(65_536)
        self._text += piece.decode()
        return bool(piece)

    def finish(self) -> Answer:
        """Read to the end."""
        try:
            self._text += self._response.read().decode()
        finally:
            self.close()
        headers = {name.lower(): value for name, value in self._response.getheaders()}
        return Answer(self._response.status, headers, self._text)

    def drop(self) -> None:
        """Go without a word, as a process that is killed: the other side sees a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def hang_up(self) -> None:
        """End a read that another thread is stuck in."""
        self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self.open.discard(self)
        if self._answered is not None:
            self._answered.close()
        self._connection.close()
        self.socket.close()


def post(url: str, body: bytes | Mapping[str, Any] | Iterable[bytes], **options: Any) -> Answer:
    """Call and read to the end; options as for `Call`."""
    return Call(url, body, **options).finish()


def post_all(bodies: Sequence[Mapping[str, Any]], hubs: Sequence[str], **options: Any) -> list[Answer]:
    """Answers to all of these, sent at once and dealt out to the hubs."""
    with ThreadPoolExecutor(len(bodies)) as pool:
        calls = [pool.submit(post, hubs[n % len(hubs)], body, **options) for n, body in enumerate(bodies)]
        return [call.result() for call in calls]


def get(url: str, path: str, *, within_s: float = 5) -> Answer:
    """GET and read to the end."""
    return Call(url, path=path, method="GET", within_s=within_s).finish()


def status_of(url: str, path: str) -> int:
    """What a GET is answered with; 0 if nothing answers."""
    try:
        return get(url, path, within_s=2).status
    except OSError:
        return 0


def is_ok(url: str, path: str) -> bool:
    """Whether a GET is answered with 200."""
    return status_of(url, path) == 200
