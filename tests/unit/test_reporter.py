"""Health reports: when they are sent, and that no trouble ends them."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from common.reasons import Reason
from common.report import HealthReport
from provider.errors import HubRefused, HubUnreachable
from provider.membership.hub_client import HubClient
from provider.presence.reporter import FIRST_AFTER_S, RETRY_MOST_S, Reporter
from provider.settings import ProviderSettings, ReportSettings
from tests.unit.provider_parts import Parts, model
from tests.unit.virtual_time import in_virtual_time, now_s

INTERVAL_S, MIN_GAP_S = 300.0, 5.0
TIMES = ReportSettings(interval_s=INTERVAL_S, min_gap_s=MIN_GAP_S)


class ToldHub(HubClient):
    """A hub that fails as often as it is told to, and keeps the rest with the time."""

    def __init__(self, *failures: Exception, is_set: bool = True) -> None:
        super().__init__(ProviderSettings(name="desk", hub_url="http://hub" if is_set else None))
        self.failures = list(failures)
        self.tried_at_s: list[float] = []
        self.got: list[tuple[float, HealthReport]] = []

    async def report(self, report: HealthReport) -> None:
        self.tried_at_s.append(now_s())
        if self.failures:
            raise self.failures.pop(0)
        self.got.append((now_s(), report))


def reporting(hub: ToldHub, until_s: float, *changes: tuple[float, Callable[[Parts], None]]) -> Reporter:
    """Report for so long, while the provider changes at some times."""

    async def story() -> Reporter:
        parts = Parts().open()
        reporter = Reporter(TIMES, parts.standing, hub)
        task = asyncio.create_task(reporter.run())
        for at_s, change in changes:
            await asyncio.sleep(at_s - now_s())
            change(parts)
        await asyncio.sleep(until_s - now_s())
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await hub.__aexit__(None, None, None)
        return reporter

    return in_virtual_time(story())


def pause(parts: Parts) -> None:
    parts.gate.set(Reason.PAUSED, holds=True)


def resume(parts: Parts) -> None:
    parts.gate.set(Reason.PAUSED, holds=False)


def test_without_news_a_report_goes_out_at_each_interval() -> None:
    hub = ToldHub()
    reporter = reporting(hub, 1000)
    first, *later = [at_s for at_s, _ in hub.got]
    assert first == pytest.approx(FIRST_AFTER_S)
    gaps = [after - before for before, after in pairwise([first, *later])]
    assert len(gaps) == 3
    assert all(0.9 * INTERVAL_S <= gap <= INTERVAL_S + MIN_GAP_S + 1 for gap in gaps)
    assert reporter.outcomes == {"sent": 4}


def test_nodes_that_started_together_do_not_report_together_for_ever() -> None:
    seen = set()
    for _ in range(5):
        hub = ToldHub()
        reporting(hub, 320)
        seen.add(round(hub.got[1][0], 3))
    assert len(seen) > 1


@pytest.mark.parametrize(
    "change",
    [
        pause,
        lambda parts: parts.slots.take() or parts.slots.take(),
        lambda parts: setattr(parts.engine, "now", replace(parts.engine.now, models=(model("new"),))),
        lambda parts: setattr(parts.engine, "now", replace(parts.engine.now, version="2")),
    ],
    ids=["reasons", "state", "models", "engine"],
)
def test_what_changes_is_reported_soon(change: Callable[[Parts], None]) -> None:
    hub = ToldHub()
    reporting(hub, 105, (100, change))
    (_, before), (at_s, after) = hub.got
    assert 100 <= at_s <= 101
    assert before != after


def test_figures_alone_are_no_news() -> None:
    hub = ToldHub()
    reporting(hub, 200, (100, lambda parts: parts.slots.take()))
    assert len(hub.got) == 1


def test_a_state_that_flaps_is_told_no_more_often_than_the_least_gap() -> None:
    hub = ToldHub()
    reporting(hub, 60, *((second, pause if second % 2 else resume) for second in range(2, 60)))
    times = [at_s for at_s, _ in hub.got]
    assert all(after - before >= MIN_GAP_S for before, after in pairwise(times))
    assert len(times) > 5


def test_a_hub_that_is_away_is_tried_again_each_time_later_and_gets_the_news_of_then() -> None:
    hub = ToldHub(*[HubUnreachable("away")] * 10)
    reporter = reporting(hub, 600, (10, pause))
    pauses = [after - before for before, after in pairwise(hub.tried_at_s[:11])]
    assert 0 < pauses[0] <= 1
    assert pauses[-1] > 10 * pauses[0]
    assert max(pauses) <= RETRY_MOST_S
    assert hub.got[0][1].reasons == ("paused",)
    assert reporter.outcomes["failed"] == 10
    assert reporter.outcomes["sent"] >= 1


@pytest.mark.parametrize("trouble", [HubRefused("who are you?"), RuntimeError("a fault of this program")])
def test_no_trouble_ends_the_reports(trouble: Exception) -> None:
    hub = ToldHub(trouble)
    reporter = reporting(hub, 30)
    assert reporter.outcomes == {"failed": 1, "sent": 1}


def test_without_a_hub_nothing_is_sent() -> None:
    hub = ToldHub(is_set=False)
    assert reporting(hub, 1000).outcomes == {}
    assert hub.tried_at_s == []
