"""Takes the health reports of providers into the registry."""

import structlog

from common.broker.clock import BrokerClock
from common.errors import BrokerError
from common.records.registry import Registry
from common.report import HealthReport
from hub.errors import BrokerAway
from hub.settings import HubSettings

log = structlog.get_logger()


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
        try:
            await self._registry.write_report(report, self._clock.now_ms(), self._ttl_ms)
        except BrokerError as exc:
            log.warning("broker_unavailable", doing="report", error=str(exc))
            raise BrokerAway(
                "the broker does not answer: the report is not kept", retry_after_s=self._retry_after_s
            ) from exc
