"""Health reports to the hub: at each interval, and soon after the state changed. Trouble here never reaches a job."""

import asyncio
import random
from collections import Counter

import structlog

from common.report import HealthReport
from common.tasks import backoff_s
from provider.errors import HubError
from provider.membership.hub_client import HubClient
from provider.settings import ReportSettings
from provider.standing import Standing

log = structlog.get_logger()

FIRST_AFTER_S = 1.5
"""From the start to the first report: by then engine and GPU have usually been seen."""
LOOK_S = 0.5
"""Between two looks at whether anything worth a report has changed."""
RETRY_FIRST_S, RETRY_MOST_S = 1.0, 60.0


class Reporter:
    """Sends the report."""

    def __init__(self, settings: ReportSettings, standing: Standing, hub: HubClient) -> None:
        self._settings = settings
        self._standing = standing
        self._hub = hub
        self.outcomes: Counter[str] = Counter()
        """How many reports were `sent` or `failed`."""

    async def run(self) -> None:
        """Report until cancelled."""
        if not self._hub.is_set:
            log.info("reports_off", hint="no hub is set (provider.url), so no health reports are sent")
            await asyncio.Event().wait()
        await asyncio.sleep(FIRST_AFTER_S)
        while True:
            told = await self._send()
            await asyncio.sleep(self._settings.min_gap_s)
            # Nodes that were started together, by a power cut say, are not to report together for ever.
            await self._wait_news(told, self._settings.interval_s * random.uniform(0.9, 1.0))  # noqa: S311 - jitter

    async def _send(self) -> HealthReport:
        """Send how things stand, trying until it works; what was sent."""
        for pause in backoff_s(RETRY_FIRST_S, RETRY_MOST_S):
            try:
                report = self._standing.health()
                await self._hub.report(report)
            except HubError as exc:
                self.outcomes["failed"] += 1
                log.warning("report_failed", error=str(exc), retry_in_s=round(pause, 1))
            except Exception:  # a fault in here must not end the process, and with it the jobs that run
                self.outcomes["failed"] += 1
                log.exception("report_crashed", retry_in_s=round(pause, 1))
            else:
                self.outcomes["sent"] += 1
                return report
            await asyncio.sleep(pause)
        raise AssertionError("backoff_s never ends")

    async def _wait_news(self, told: HealthReport, limit_s: float) -> None:
        """Until something worth a report is different, or the time for the next one has come."""
        loop = asyncio.get_running_loop()
        until = loop.time() + limit_s
        while True:
            await asyncio.sleep(LOOK_S)
            if loop.time() >= until or _gist(self._standing.health()) != _gist(told):
                return


def _gist(report: HealthReport) -> tuple[object, ...]:
    """What is worth a report of its own when it changes; figures are not."""
    return report.state, report.reasons, report.models, report.engine, report.public_url
