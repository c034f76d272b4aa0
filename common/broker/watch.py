"""Warns of settings with which a broker can lose what it is given: at the start, and when it is another server."""

import asyncio

import structlog

from common.broker.broker import Broker
from common.broker.facts import BrokerFacts, concerns, read_facts
from common.errors import BrokerError

log = structlog.get_logger()

LOOK_S = 5.0
"""How often to see whether connections were lost, after which the broker may be another one."""


class BrokerWatch:
    """Looks at the broker's settings and tells what they may cost, once for each server that it finds."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._told: str | None = None
        """The run of the server whose concerns were told last."""

    async def run(self) -> None:
        """Look until cancelled; a broker that is away is told by those who need it."""
        looked_at: int | None = None
        while True:
            count = self._broker.reconnections.count
            if count != looked_at:
                try:
                    await self.look()
                    looked_at = count
                except BrokerError:
                    pass
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Look once, and tell unless this server was told of; BrokerError if it does not answer."""
        facts = await read_facts(self._broker)
        if facts.run != self._told:
            self._told = facts.run
            _tell(facts)


def _tell(facts: BrokerFacts) -> None:
    server = f"{facts.product} {facts.version}".strip()
    for concern in concerns(facts):
        log.warning("broker_may_lose", server=server, concern=concern.text, hint=concern.advice)
    if facts.untold:
        hint = "see that maxmemory-policy is noeviction, and that it keeps what it is given on disk"
        log.info("broker_settings_untold", server=server, settings=facts.untold, hint=hint)
