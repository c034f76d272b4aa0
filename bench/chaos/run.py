"""One run from the empty grid to the row of the table."""

import asyncio
import math
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bench.chaos.client import Ask
from bench.chaos.faults import IN_FLIGHT_WITHIN_S, Fault, Hand
from bench.chaos.load import Load
from bench.chaos.proxy import Proxy
from bench.chaos.remains import remains
from bench.chaos.report import Row, find_wrongs, row_of
from bench.chaos.scenarios import Scenario, poison
from bench.chaos.shape import Shape
from bench.chaos.site import Site

LEAST_HEARTBEAT_S = 0.5
"""However hasty the run: less would find processes dead that only wait for a core."""
RAMP_S = 3.0
"""In which the clients come."""
OVERTIME_S = 120
"""How much longer than its undisturbed answer a request may take before its client gives up."""
TELL_S = 30
LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Size:
    """How large a run is."""

    streams: int = 200
    seed: int = 1
    gap_ms: float = 50
    tokens: int | None = None
    """Instead of the scenario's own."""
    minutes: float = 1
    """Of a run that goes on and on."""
    haste: float = 1
    """What all times of grid and plan are multiplied with: less than 1 for a short run."""
    is_patient: bool = True
    """Whether it waits until answers that may be resumed are gone too."""
    is_afresh: bool = True
    """See `Shape`."""


async def run(scenario: Scenario, size: Size, folder: Path, say: Callable[[str], None] = print) -> Row:
    """Start a grid, load it, hurt it, judge it, end it."""
    shape = Shape(
        heartbeat_s=max(LEAST_HEARTBEAT_S, scenario.heartbeat_s * size.haste),
        broker=scenario.broker,
        slots=math.ceil(size.streams / 2) + 2,
        env=dict(scenario.env),
        is_keyed=scenario.is_keyed,
        has_front=scenario.has_front,
        is_afresh=size.is_afresh,
    )
    site = await asyncio.to_thread(Site, folder, shape)
    proxy = Proxy("127.0.0.1", site.broker.port)
    try:
        await proxy.start()
        # The first provider alone is behind it: the run's own process carries its traffic.
        # Where there are replicas there is no such place: providers are told of the servers' own addresses.
        is_alone = not scenario.broker.has_replicas
        await asyncio.to_thread(site.open, {0: f"redis://127.0.0.1:{proxy.port}/0"} if is_alone else {})
        return await _hurt(scenario, size, site, proxy, say)
    finally:
        await asyncio.to_thread(site.close)
        await proxy.close()


async def _hurt(scenario: Scenario, size: Size, site: Site, proxy: Proxy, say: Callable[[str], None]) -> Row:
    wishes = scenario.wishes(size.gap_ms, size.tokens)
    load = Load(site, limit_s=wishes.tokens * 1.2 * size.gap_ms / 1000 + OVERTIME_S)
    hand = Hand(site, load, proxy, say)
    planned = scenario.plan(random.Random(f"{scenario.name}/{size.seed}"), size.minutes * 60 / size.haste)
    plan = [replace(fault, at_s=fault.at_s * size.haste, lasts_s=fault.lasts_s * size.haste) for fault in planned]
    watch = asyncio.create_task(_watch(scenario, site, load, say))
    try:
        if scenario.is_steady:
            await _go_on(load, hand, plan, size, lambda number: wishes.draw(number, size.seed))
        else:
            asks = [wishes.draw(number, size.seed) for number in range(size.streams)]
            async with asyncio.TaskGroup() as group:
                group.create_task(load.once(asks, RAMP_S * size.haste))
                group.create_task(hand.carry_out(plan))
                if scenario.is_poisoned:
                    await load.wait_until_in_flight(IN_FLIGHT_WITHIN_S)
                    group.create_task(load.once([poison(size.streams, size.gap_ms)], 0))
        left_behind = await remains(site, is_patient=size.is_patient)
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
    row = row_of(scenario.name, load.courses, hand.strikes, left_behind)
    row.generations = site.started_generations() if scenario.counts_generations else None
    with site.grid.redis() as client:
        row.dead = client.xlen("ghub:dead")
    demands = scenario.demands
    find_wrongs(row, replace(demands, generations=row.streams) if scenario.counts_generations else demands)
    return row


async def _go_on(load: Load, hand: Hand, plan: Sequence[Fault], size: Size, draw: Callable[[int], Ask]) -> None:
    stop = asyncio.Event()
    end_s = time.monotonic() + size.minutes * 60
    async with asyncio.TaskGroup() as group:
        group.create_task(load.steadily(draw, size.streams, stop, RAMP_S))
        try:
            await hand.carry_out(plan)
            await asyncio.sleep(max(0.0, end_s - time.monotonic()))
        finally:
            stop.set()


async def _watch(scenario: Scenario, site: Site, load: Load, say: Callable[[str], None]) -> None:
    """Tell now and then how it goes; start engines again that a poisoned prompt has ended."""
    tell_s = time.monotonic() + TELL_S
    while True:
        await asyncio.sleep(LOOK_S)
        died = await asyncio.to_thread(site.raise_engines) if scenario.is_poisoned else 0
        if died:
            say("an engine died and was started again")
        if time.monotonic() > tell_s:
            tell_s += TELL_S
            over = len(load.courses) - len(load.running)
            say(f"{over} requests over, {len(load.running)} open")
