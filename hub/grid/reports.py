"""Takes the health reports of providers into the registry."""

from common.broker.clock import BrokerClock
from common.records.registry import Registry
from common.report import HealthReport
from hub.asking import asking_broker
from hub.settings import HubSettings


class Reports:
    """Health reports on their way into the registry, where any hub finds them."""

    def __init__(self, registry: Registry, clock: BrokerClock, settings: HubSettings) -> None:
        self._registry = registry
        self._clock = clock
        self._ttl_ms = int(settings.report_ttl_s * 1000)
        self._retry_after_s = settings.retry_after_s

    async def keep(self, report: HealthReport) -> None:
        """Keep a node's latest report.

        Raises:
            BrokerAway: it is not kept, or nobody can tell.
        """
        with asking_broker("report", self._retry_after_s, "the report is not kept"):
            await self._registry.write_report(report, self._clock.now_ms(), self._ttl_ms)
