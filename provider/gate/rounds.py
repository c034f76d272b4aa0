"""The gate's reasons that come and go with time alone: the schedule, and room for a model."""

import asyncio
from datetime import UTC, datetime

from common.reasons import Reason
from provider.gate.gate import Gate
from provider.gate.room import ModelRoom
from provider.schedule import Schedule

ROUND_S = 0.5
"""A window opens at most this late. Looking at the clock beats sleeping until then: clocks are set, machines sleep."""


async def make_rounds(gate: Gate, schedule: Schedule, room: ModelRoom) -> None:
    """Look twice a second, until cancelled."""
    while True:
        gate.set(Reason.OUTSIDE_SCHEDULE, holds=not schedule.is_open(datetime.now(UTC)))
        room.judge()
        await asyncio.sleep(ROUND_S)
