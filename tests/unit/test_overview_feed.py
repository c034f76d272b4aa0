"""What those hear who watch the grid."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from fastapi import FastAPI
from starlette.types import Message, Receive
from structlog.testing import capture_logs

from common.tasks import Crew
from hub.access.gatekeeper import Gatekeeper
from hub.api.admin.overview import overview_router
from hub.api.errors import install_error_handlers
from hub.errors import BrokerAway, TooManyReaders
from hub.overview import feed as feed_module
from hub.overview.feed import MOST_UNREAD, News, OverviewFeed
from hub.overview.snapshot import Overview
from hub.settings import HubSettings

OPEN_DOOR = cast(Gatekeeper, SimpleNamespace(check_admin=lambda *_, **__: None))


class Told:
    """An overview of a grid in which one number rises with each look."""

    def __init__(self) -> None:
        self.looks = 0
        self.is_away = False
        self.stands_still = False

    async def take(self) -> dict[str, Any]:
        self.looks += not self.stands_still
        if self.is_away:
            raise BrokerAway("the broker does not answer")
        return {"at": self.looks, "totals": {"nodes": self.looks}}


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def feed(told: Told, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OverviewFeed]:
    monkeypatch.setattr(feed_module, "STEP_S", 0.01)
    feed = OverviewFeed(cast(Overview, told), 2)
    crew = Crew()
    crew.start("overview", feed.run())
    yield feed
    await crew.stop()


async def hear(watching: AsyncIterator[News], count: int) -> list[tuple[str, Any]]:
    async with asyncio.timeout(5):
        news = [await anext(watching) for _ in range(count)]
    return [(one.event, orjson.loads(one.data)) for one in news]


async def test_the_whole_comes_first_and_then_what_changes(feed: OverviewFeed) -> None:
    heard = await hear(await feed.watch(), 3)
    assert heard[0] == ("snapshot", {"at": 1, "totals": {"nodes": 1}})
    assert heard[1:] == [("patch", {"at": n, "totals": {"nodes": n}}) for n in (2, 3)]


async def test_one_look_serves_all_who_watch(feed: OverviewFeed, told: Told) -> None:
    first, second = await feed.watch(), await feed.watch()
    await hear(first, 2)
    event, state = (await hear(second, 1))[0]
    assert event == "snapshot"
    (_, patch), _ = await hear(second, 2)
    assert patch["at"] == state["at"] + 1
    assert told.looks <= patch["at"] + 2


async def test_nobody_looks_for_nobody(feed: OverviewFeed, told: Told) -> None:
    watching = await feed.watch()
    await hear(watching, 1)
    await watching.aclose()  # type: ignore[attr-defined]
    await asyncio.sleep(0.05)
    looks = told.looks
    await asyncio.sleep(0.05)
    assert told.looks == looks


async def test_a_grid_that_stands_still_is_silent(feed: OverviewFeed, told: Told) -> None:
    told.stands_still = True
    watching = await feed.watch()
    await hear(watching, 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await anext(watching)


async def test_a_broker_that_is_away_is_told_and_what_changed_meanwhile_comes_later(
    feed: OverviewFeed, told: Told
) -> None:
    watching = await feed.watch()
    await hear(watching, 1)
    told.is_away = True
    while (heard := (await hear(watching, 1))[0])[0] == "patch":
        pass
    assert heard == ("trouble", {"code": "broker_unavailable", "message": "the broker does not answer"})
    told.is_away = False
    while (heard := (await hear(watching, 1))[0])[0] == "trouble":
        pass
    assert heard[0] == "patch"


async def test_who_is_too_far_behind_gets_the_whole_anew(feed: OverviewFeed, told: Told) -> None:
    watching = await feed.watch()
    await hear(watching, 1)
    behind = told.looks + MOST_UNREAD + 3
    while told.looks < behind:  # noqa: ASYNC110 - it counts, and tells nobody
        await asyncio.sleep(0.01)
    heard = await hear(watching, 1)
    assert heard[0][0] == "snapshot"
    assert heard[0][1]["at"] >= behind - 1


async def test_there_is_nothing_to_watch_without_a_broker(feed: OverviewFeed, told: Told) -> None:
    told.is_away = True
    with pytest.raises(BrokerAway):
        await feed.watch()


async def test_only_so_many_may_watch(feed: OverviewFeed) -> None:
    watching = [await feed.watch(), await feed.watch()]
    for one in watching:
        await hear(one, 1)
    with pytest.raises(TooManyReaders):
        await feed.watch()
    await watching[0].aclose()  # type: ignore[attr-defined]
    await hear(await feed.watch(), 1)


async def test_a_hub_that_stops_ends_what_is_watched(feed: OverviewFeed) -> None:
    watching = await feed.watch()
    await hear(watching, 1)
    feed.close()
    async with asyncio.timeout(5):
        assert [event async for event, _ in watching if event == "snapshot"] == []


async def test_a_watcher_that_reads_nothing_is_cut_off_and_is_no_failure_of_the_hub(feed: OverviewFeed) -> None:
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(overview_router(OPEN_DOOR, cast(Overview, None), feed, HubSettings(send_timeout_s=0.05)))
    sent: list[str] = []

    async def send(message: Message) -> None:
        sent.append(message["type"])
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    scope = {"type": "http", "method": "GET", "path": "/api/overview/stream", "query_string": b"", "headers": []}
    with capture_logs() as logged:
        async with asyncio.timeout(5):
            await app(scope, cast(Receive, asyncio.Event().wait), send)
    assert sent == ["http.response.start", "http.response.body"]
    assert [entry["event"] for entry in logged] == ["watcher_gone"]
