"""The engine of the comparison: says numbered, timed events as fast, or at the pace, that the request asks for.

Run: `python -m bench.compare.engine`; it prints `listening <port>` and ends with its standard input.

It must never be the bottleneck: nothing is parsed but the head of the request, every event is one formatting of a
constant. Events are 200 bytes long, each a chunk of its own and written by itself, as engines write them; without a
pace every open stream gets one at each turn of the loop.
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from typing import cast

import httptools
import uvloop

from bench.compare.wire import wanted

_EVENT = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench",'
    b'"system_fingerprint":"fp_bench","choices":[{"index":0,"delta":{"content":" %d:%x"},"finish_reason":null}]}\n\n'
)
_FINISH = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench",'
    b'"system_fingerprint":"fp_bench","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
)
_USAGE = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench",'
    b'"system_fingerprint":"fp_bench","choices":[],'
    b'"usage":{"prompt_tokens":8,"completion_tokens":%d,"total_tokens":%d}}\n\n'
)
_DONE = b"data: [DONE]\n\n"
_WHOLE = (
    b'{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"bench",'
    b'"system_fingerprint":"fp_bench","choices":[{"index":0,"message":{"role":"assistant","content":" %d:%x"},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":8,"completion_tokens":%d,"total_tokens":%d}}'
)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
HIGH_WATER_BYTES = 256 * 1024


def _plain(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _list(models: int) -> bytes:
    """So many models, of which all but the first are there for their number."""
    names = ["bench", *(f"bench-{nth}" for nth in range(1, models))]
    told = [b'{"id":"%b","object":"model","created":1700000000,"owned_by":"bench"}' % one.encode() for one in names]
    return b'{"object":"list","data":[%b]}' % b",".join(told)


class Exchange(asyncio.Protocol):
    """One connection."""

    def __init__(self, models: int = 1) -> None:
        self._models = _list(models)
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._body = b""
        self._transport: asyncio.Transport
        self._timer: asyncio.Handle | None = None
        self._burst: Iterator[bytes] | None = None
        self._is_full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(HIGH_WATER_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        if self._timer is not None:
            self._timer.cancel()
        self._burst = None

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._say_next()

    def on_message_begin(self) -> None:
        self._url, self._body = b"", b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if not self._url.endswith(b"/chat/completions"):
            is_known = self._url.endswith((b"/models", b"/health"))
            self._transport.write(_plain(self._models) if is_known else _plain(b"{}", b"404 Not Found"))
            return
        events, pace_s, is_stream, tells_usage = wanted(self._body)
        if not is_stream:
            self._transport.write(_plain(_WHOLE % (0, time.monotonic_ns(), events, events + 8)))
            return
        end = _chunk(_FINISH)
        if tells_usage:
            end += _chunk(_USAGE % (events, events + 8))
        end += _chunk(_DONE) + b"0\r\n\r\n"
        if pace_s:
            self._say_paced(0, events, pace_s, asyncio.get_running_loop().time(), end)
        else:
            self._burst = _burst(events, end)
            self._say_next()

    def _say_next(self) -> None:
        if self._burst is None or self._is_full:
            return
        data = next(self._burst, None)
        if data is None:
            self._burst = None
            return
        self._transport.write(data)
        self._timer = asyncio.get_running_loop().call_soon(self._say_next)

    def _say_paced(self, nth: int, events: int, pace_s: float, began: float, end: bytes) -> None:
        data = _chunk(_EVENT % (nth, time.monotonic_ns()))
        if nth == 0:
            data = _STREAM_HEAD + data
        nth += 1
        if nth == events:
            self._transport.write(data + end)
            return
        self._transport.write(data)
        self._timer = asyncio.get_running_loop().call_at(
            began + nth * pace_s, self._say_paced, nth, events, pace_s, began, end
        )


def _burst(events: int, end: bytes) -> Iterator[bytes]:
    head = _STREAM_HEAD
    for nth in range(events):
        yield head + _chunk(_EVENT % (nth, time.monotonic_ns())) + (end if nth == events - 1 else b"")
        head = b""


async def serve(models: int) -> None:
    """Serve on a free port of loopback until standard input closes."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Exchange(models), "127.0.0.1", 0, backlog=4096)
    print(f"listening {server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]) if len(sys.argv) > 1 else 1))
