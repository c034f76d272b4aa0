"""Brokers whose servers change under their clients: what both kinds of them are tried with."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from common.broker.broker import BLOCK_MS, Broker
from common.errors import BrokerUnavailable, LaneMissing
from common.records.grid import HubRecord
from common.records.registry import Registry
from common.streams.jobs import JobLanes
from tests.contract.story import HUB, LANES, NODE, requests_of

BACK_WITHIN_S = 20.0
"""To find out, elect and promote takes 2 to 4 s on an idle machine."""
PAUSE_S = 0.1


async def in_time(work: Callable[[], Awaitable[object]], within_s: float = BACK_WITHIN_S) -> float:
    """Try until it works; after how many seconds it did. Nothing but "away" may be heard meanwhile."""
    began = time.monotonic()
    while True:
        with suppress(BrokerUnavailable):
            await work()
            return time.monotonic() - began
        assert time.monotonic() < began + within_s
        await asyncio.sleep(PAUSE_S)


async def beat(broker: Broker) -> None:
    """Write something."""
    await Registry(broker).write_hub(HubRecord(HUB, "", "", 0, 0), 60_000)


async def until_it_comes(broker: Broker, request: str) -> None:
    """Wait for a job as a provider does, whatever becomes of the broker meanwhile."""
    lanes = JobLanes(broker)
    while True:
        try:
            found = await lanes.wait(NODE, LANES, BLOCK_MS) or await lanes.claim(NODE, LANES, 10)
            if request in requests_of(found):
                return
        except LaneMissing:
            await lanes.ensure(LANES)
        except BrokerUnavailable:
            await asyncio.sleep(PAUSE_S)
