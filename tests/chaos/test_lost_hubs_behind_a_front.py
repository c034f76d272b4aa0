"""Many streams through a front of all hubs: a hub that is killed, and hubs that are renewed one by one."""

import asyncio
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp
import orjson
import pytest

from bench.chaos.judge import Verdict, judge
from bench.chaos.reading import EventReader, Heard
from tests.doubles.process import EngineProcess
from tests.support.fronts import FrontProcess
from tests.support.grid import Grid, chat
from tests.support.processes import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

STREAMS = 200
TOKENS = 60
PACE = {"delay_ms": 100}
"""6 s a stream, 2,000 tokens a second together: clients that are slower than these would hear of the hubs too late."""
HUB = {
    "GHUB_HEARTBEAT_S": "0.5",
    "GHUB_HUB_FIRST_COMMENT_S": "0.5",
    "GHUB_HUB_COMMENT_INTERVAL_S": "1",
    "GHUB_HUB_SHUTDOWN_TIMEOUT_S": "0.5",
}


@dataclass(frozen=True)
class Parts:
    """Two hubs, an engine, and a front."""

    grid: Grid
    engine: EngineProcess
    hubs: list[str]
    front: FrontProcess


@pytest.fixture
def parts(grid: Grid) -> Iterator[Parts]:
    engine = grid.engine(slots=STREAMS)
    hubs = [grid.hub(wait=False, **HUB) for _ in range(2)]
    grid.provider(engine.url, GHUB_HEARTBEAT_S="0.5", GHUB_PROVIDER_SLOTS=str(STREAMS))
    for hub in hubs:
        grid.wait_for_hub(hub)
        grid.wait_for_model(hub, "tiny:1b")
    front = FrontProcess(hubs, grid.folder, GHUB_CONNECT_CHECK_INTERVAL_S="0.5")
    until(lambda: front.ready_hubs == {*hubs}, 10, front.process.tail)
    yield Parts(grid, engine, hubs, front)
    front.process.kill()


async def _stream(session: aiohttp.ClientSession, url: str, heard: Heard) -> None:
    """One client that knows nothing of hubs."""
    body = orjson.dumps(chat(tokens=TOKENS, stream=True, double=PACE))
    async with session.post(f"{url}/v1/chat/completions", data=body) as response:
        assert response.status == 200, await response.text()
        reader = EventReader(heard)
        while data := await response.content.readany():
            reader.feed(data, 0)


async def _whole(session: aiohttp.ClientSession, url: str) -> str:
    body = orjson.dumps(chat(tokens=TOKENS // 2, double=PACE))
    async with session.post(f"{url}/v1/chat/completions", data=body) as response:
        assert response.status == 200, await response.text()
        told: str = (await response.json())["choices"][0]["message"]["content"]
        return told


async def _crowd(url: str, all_begun: asyncio.Event) -> list[Heard]:
    """All streams at once, until their ends."""
    heard = [Heard() for _ in range(STREAMS)]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        tasks = [asyncio.create_task(_stream(session, url, one)) for one in heard]
        await asyncio.to_thread(until, lambda: all(one.words for one in heard), 20, "all streams have begun")
        all_begun.set()
        await asyncio.gather(*tasks)
    return heard


def _check(heard: list[Heard]) -> None:
    for one in heard:
        assert one.is_finished
        assert judge(one.text, TOKENS, is_finished=True) == Verdict()


def test_a_hub_dies_under_two_hundred_streams_and_no_token_is_lost_or_doubled(parts: Parts) -> None:
    async def scene() -> list[Heard]:
        begun = asyncio.Event()
        crowd = asyncio.create_task(_crowd(parts.front.url, begun))
        await begun.wait()
        carried = {hub["url"]: hub["open_requests"] for hub in parts.front.standing["hubs"]}
        assert carried == dict.fromkeys(parts.hubs, STREAMS // 2)
        parts.grid.hubs[parts.hubs[1]].signal(signal.SIGKILL)
        return await crowd

    _check(asyncio.run(scene()))
    state = parts.engine.state()
    assert (state["started"], state["finished"]) == (STREAMS, STREAMS)


def test_all_hubs_are_renewed_one_by_one_under_load_and_no_call_fails(parts: Parts) -> None:
    async def callers(session: aiohttp.ClientSession, over: asyncio.Event) -> int:
        count = 0
        while not over.is_set():
            heard = Heard()
            await _stream(session, parts.front.url, heard)
            _check([heard])
            assert judge(await _whole(session, parts.front.url), TOKENS // 2, is_finished=True) == Verdict()
            count += 2
        return count

    async def scene() -> int:
        over = asyncio.Event()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            tasks = [asyncio.create_task(callers(session, over)) for _ in range(24)]
            for hub in parts.hubs:
                await asyncio.to_thread(_renew, parts, hub)
            over.set()
            return sum(await asyncio.gather(*tasks))

    calls = asyncio.run(scene())
    assert calls >= 48
    assert parts.engine.state()["started"] == calls


def _renew(parts: Parts, hub: str) -> None:
    parts.grid.hubs[hub].signal(signal.SIGTERM)
    assert parts.grid.hubs[hub].wait(15) == 0
    parts.grid.hub(url=hub, **HUB)
    until(lambda: hub in parts.front.ready_hubs, 10, parts.front.process.tail)
