"""A flood of wrong keys: the broker hears next to nothing of it, and who has a right one is served as ever."""

import asyncio
import statistics
import time
from collections.abc import Iterator, Sequence

import pytest
import redis

from common.broker.broker import connect
from common.records.credentials import ClientKey, Credentials, digest_of
from tests.support.grid import Grid

RIGHT = "ghub-a-right-key"
FLOOD = 10_000
STEADY_PER_S = 60
"""What a hub at rest asks of its broker, and far more."""


@pytest.fixture(scope="module")
def hub(module_grid: Grid) -> str:
    """A hub that asks for keys, and knows one."""

    async def make_key() -> None:
        broker = connect(module_grid.broker.url, prefix="ghub:", client_name="test")
        await Credentials(broker).add_key(ClientKey(digest_of(RIGHT), "right", created_at=0))
        await broker.aclose()

    asyncio.run(make_key())
    return module_grid.hub(GHUB_HUB_AUTH="required")


@pytest.fixture
def commands(module_grid: Grid) -> Iterator["Commands"]:
    with module_grid.redis() as client:
        yield Commands(client)


class Commands:
    """What the broker was asked since the test began."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._began, self._began_s = self._total(), time.monotonic()

    def beyond_rest(self) -> float:
        """Commands beyond those of a hub at rest."""
        return self._total() - self._began - STEADY_PER_S * (time.monotonic() - self._began_s)

    def _total(self) -> int:
        return int(self._client.info("stats")["total_commands_processed"])


class Line:
    """One kept connection, asked again and again."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, key: str) -> int:
        """The status of `GET /v1/models` with a key."""
        self._writer.write(
            f"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n\r\n".encode()
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
        await self._reader.readexactly(length)
        return int(head.split()[1])

    async def ask_all(self, keys: Sequence[str]) -> set[int]:
        return {await self.ask(key) for key in keys}

    def close(self) -> None:
        self._writer.close()


async def flood(hub: str, keys: Sequence[str], lines: int, probe: str) -> tuple[set[int], list[float]]:
    """Ask with all these keys over some lines; what was answered, and how long `probe` took on another one, s."""
    host, _, port = hub.removeprefix("http://").partition(":")
    opened = [Line(*await asyncio.open_connection(host, int(port))) for _ in range(lines + 1)]
    asking = asyncio.gather(*(line.ask_all(keys[n::lines]) for n, line in enumerate(opened[1:])))
    took_s: list[float] = []
    while not asking.done():
        began_s = time.perf_counter()
        assert await opened[0].ask(probe) == 200
        took_s.append(time.perf_counter() - began_s)
    for line in opened:
        line.close()
    return set().union(*await asking), took_s


def ask(hub: str, keys: Sequence[str], lines: int) -> tuple[set[int], float]:
    """The answers to a flood, and the median of what a right key waited for its own during it, s."""
    statuses, took_s = asyncio.run(flood(hub, keys, lines, RIGHT))
    print(f"figure: {len(keys)} keys, right one {statistics.median(took_s) * 1000:.1f} ms, worst {max(took_s):.2f} s")
    return statuses, statistics.median(took_s)


def test_ten_thousand_times_one_wrong_key(hub: str, commands: Commands) -> None:
    statuses, among_wrong_s = ask(hub, ["wrong"] * FLOOD, 8)
    assert statuses == {401}
    assert commands.beyond_rest() < FLOOD / 100

    statuses, among_right_s = ask(hub, [RIGHT] * (FLOOD // 4), 8)
    assert statuses == {200}
    assert among_wrong_s < 3 * among_right_s


def test_ten_thousand_different_wrong_keys(hub: str, commands: Commands) -> None:
    statuses, among_wrong_s = ask(hub, [f"wrong-{n}" for n in range(FLOOD)], 500)
    assert statuses == {401}
    assert commands.beyond_rest() < FLOOD / 100

    statuses, among_right_s = ask(hub, [RIGHT] * (FLOOD // 4), 500)
    assert statuses == {200}
    assert among_wrong_s < 3 * among_right_s
