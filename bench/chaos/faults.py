"""What is done to the grid, and when: a plan of faults, and the hand that carries it out."""

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from bench.chaos.client import Course, End
from bench.chaos.load import Load
from bench.chaos.proxy import Line, Proxy
from bench.chaos.site import Site, send_signal

POWER_CUT_S = 1.0
"""How much of its file of commands a broker loses that writes it to disk once a second."""
IN_FLIGHT_WITHIN_S = 60
"""For the first token of the last stream: a machine may be slow."""
FREED_WITHIN_S = 30
"""How long to watch for the engines of a killed hub's clients to come free."""
LOOK_S = 0.1


class Part(StrEnum):
    """What is hit."""

    PROVIDER = "provider"
    HUB = "hub"
    ENGINE = "engine"
    BROKER = "broker"
    NETWORK = "network"


class Action(StrEnum):
    """What is done to it."""

    KILL = "kill"
    """SIGKILL, and a new start afterwards."""
    POWER_CUT = "power cut"
    """The broker's: SIGKILL, and the last second of its file is gone too."""
    STOP = "stop"
    """SIGSTOP, and SIGCONT afterwards."""
    STALL = "stall"
    CUT = "cut"
    HALF_CLOSE = "half-close"
    FORGET = "forget"
    """The broker's: all keys are gone while every connection stands, as by FLUSHALL or an eviction."""
    MOVE = "move a slot of"
    """A cluster's: a slot goes to another of its masters, key by key."""
    RESTART = "restart"
    """Stop it in order, and start it anew: of a broker every server, one after the other."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a plan."""

    at_s: float
    """After all streams are in flight."""
    part: Part
    action: Action
    nth: int = 0
    lasts_s: float = 2.0
    """Until it is started, continued or healed."""

    def __str__(self) -> str:
        return f"{self.at_s:6.1f} s  {self.action} {self.part} {self.nth} for {self.lasts_s:.1f} s"


@dataclass(slots=True)
class Strike:
    """A fault as it happened."""

    fault: Fault
    at_s: float
    """On the monotonic clock."""
    victims: list[Course] = field(default_factory=list)
    freed_s: float | None = None
    """Of a killed hub: when the engines ran nothing any more for clients that are cut off."""


class Hand:
    """Carries out a plan on a site under load."""

    def __init__(self, site: Site, load: Load, proxy: Proxy, say: Callable[[str], None]) -> None:
        self.strikes: list[Strike] = []
        self._site = site
        self._load = load
        self._proxy = proxy
        self._say = say
        self._moving = asyncio.Lock()

    async def carry_out(self, plan: Sequence[Fault]) -> None:
        """Do all of it; returns when the last part is whole again."""
        if not plan:
            return
        await self._load.wait_until_in_flight(IN_FLIGHT_WITHIN_S)
        began_s = time.monotonic()
        if all(fault.action is Action.RESTART for fault in plan):  # each when the one before is there again
            for fault in plan:
                await self._do(fault)
            return
        async with asyncio.TaskGroup() as group:
            for fault in sorted(plan, key=lambda one: one.at_s):
                await asyncio.sleep(max(0.0, began_s + fault.at_s - time.monotonic()))
                group.create_task(self._do(fault))

    async def _do(self, fault: Fault) -> None:
        hit = await self._victims(fault)
        before_bytes = 0
        if fault.action is Action.POWER_CUT:
            before_bytes = self._site.log_size_bytes()
            await asyncio.sleep(POWER_CUT_S)
        self._say(str(fault))
        strike = Strike(fault, time.monotonic(), hit)
        self.strikes.append(strike)
        match fault.action:
            case Action.KILL | Action.POWER_CUT:
                await self._kill(fault, before_bytes, strike)
            case Action.STOP:
                await self._stop(fault)
            case Action.RESTART:
                await asyncio.to_thread(self._restart, fault)
            case Action.FORGET:
                await asyncio.to_thread(self._site.flush_broker)
            case Action.MOVE:
                async with self._moving:  # on a slow machine the one before may not be there yet
                    await asyncio.to_thread(self._site.move_slot, fault.nth)
            case Action.HALF_CLOSE:
                self._proxy.half_close()
            case Action.STALL | Action.CUT:
                self._proxy.be(Line.STALLED if fault.action is Action.STALL else Line.CUT)
                await asyncio.sleep(fault.lasts_s)
                self._proxy.be(Line.SOUND)

    async def _victims(self, fault: Fault) -> list[Course]:
        running = self._load.running
        match fault.part:
            case Part.BROKER:
                return running
            case Part.HUB:
                others = {url for nth, url in enumerate(self._site.hub_urls) if nth != fault.nth}
                return [course for course in running if course.hub not in others]  # behind a front it may be any
            case Part.PROVIDER | Part.ENGINE | Part.NETWORK:
                ids = await asyncio.to_thread(self._site.running_on, fault.nth)
                return [course for course in running if course.request_id in ids]

    async def _kill(self, fault: Fault, before_bytes: int, strike: Strike) -> None:
        site, nth = self._site, fault.nth
        watch: asyncio.Task[None] | None = None
        match fault.part:
            case Part.PROVIDER:
                site.kill_provider(nth)
                start = partial(site.start_provider, nth)
            case Part.HUB:
                site.kill_hub(nth)
                watch = None if site.has_front else asyncio.create_task(self._watch_freed(strike))
                start = partial(site.start_hub, nth)
            case Part.ENGINE:
                site.engines[nth].kill()
                start = partial(site.start_engine, nth)
            case _:
                site.kill_broker(nth, before_bytes if fault.action is Action.POWER_CUT else None)
                start = partial(site.start_broker)
        await asyncio.sleep(max(0.0, strike.at_s + fault.lasts_s - time.monotonic()))
        await asyncio.to_thread(start)
        if watch is not None:
            await watch

    def _restart(self, fault: Fault) -> None:
        match fault.part:
            case Part.HUB:
                self._site.restart_hub(fault.nth)
            case Part.PROVIDER:
                self._site.restart_provider(fault.nth)
            case _:
                self._site.restart_brokers()

    async def _watch_freed(self, strike: Strike) -> None:
        """Until no more generations are open than there are clients that wait for one."""
        while time.monotonic() < strike.at_s + FREED_WITHIN_S:
            await asyncio.sleep(LOOK_S)
            is_cut = sum(course.end is End.HUB_LOST for course in strike.victims)
            if not is_cut and any(course.end is None and not course.resumed for course in strike.victims):
                continue  # the clients have not even noticed
            generations = await asyncio.to_thread(self._site.open_generations)
            if generations <= len(self._load.running):
                strike.freed_s = time.monotonic() - strike.at_s
                return

    async def _stop(self, fault: Fault) -> None:
        pid = self._pid(fault)
        send_signal(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.lasts_s)
        finally:
            send_signal(pid, signal.SIGCONT)

    def _pid(self, fault: Fault) -> int:
        match fault.part:
            case Part.PROVIDER:
                return self._site.provider(fault.nth).pid
            case Part.HUB:
                return self._site.hub(fault.nth).pid
            case Part.ENGINE:
                return self._site.engines[fault.nth].pid
            case _:
                return self._site.broker.process.pid
