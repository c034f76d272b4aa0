"""The stretch of network that can be made to fail."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from bench.chaos.proxy import Line, Proxy

pytestmark = pytest.mark.timeout(20)
SHORT_S = 0.1
"""In which what passes at all has passed on loopback."""


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A line to a server that says everything again, and says `over` when it is told no more."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.write(b"over")
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    made = Proxy("127.0.0.1", server.sockets[0].getsockname()[1])
    await made.start()
    yield made
    await made.close()
    server.close()


async def call(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"hello")
    return reader, writer


async def test_a_sound_line_carries_everything_both_ways(proxy: Proxy) -> None:
    reader, writer = await call(proxy)
    assert await reader.readexactly(5) == b"hello"
    writer.write_eof()
    assert await reader.read() == b"over"
    writer.close()


async def test_a_stalled_line_carries_nothing_until_it_is_sound(proxy: Proxy) -> None:
    reader, writer = await call(proxy)
    await reader.readexactly(5)
    proxy.be(Line.STALLED)
    writer.write(b"again")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(5), SHORT_S)
    proxy.be(Line.SOUND)
    assert await reader.readexactly(5) == b"again"
    writer.close()


async def test_a_cut_line_resets_old_connections_and_new_ones(proxy: Proxy) -> None:
    reader, writer = await call(proxy)
    await reader.readexactly(5)
    proxy.be(Line.CUT)
    assert await ended(reader)
    late_reader, late_writer = await call(proxy)
    assert await ended(late_reader)
    writer.close()
    late_writer.close()


async def test_a_half_closed_line_ends_what_each_side_hears(proxy: Proxy) -> None:
    reader, writer = await call(proxy)
    await reader.readexactly(5)
    proxy.half_close()
    assert await reader.read() == b""
    writer.close()


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True
