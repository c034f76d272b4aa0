"""A grid to measure: a broker, hub processes, one hub in this process that can be timed, and farms of nodes."""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil

from bench.ground import cpu_s
from common.broker.broker import Broker, connect
from common.errors import BrokerError, ClientGone
from common.keys import Keys
from common.logs import LogFormat, configure_logs
from common.types import ModelId
from hub.access.gatekeeper import ANYONE
from hub.app import Hub
from hub.errors import RequestFailed
from hub.requests.admission import Submission
from hub.settings import HubSettings
from tests.support.brokers import BrokerProcess
from tests.support.grid import Grid
from tests.support.processes import Process, python

MANY = 1_000_000
LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Timing:
    """One request. Times in seconds on this machine's monotonic clock."""

    node: str
    submitted_at: float
    published_at: float
    asked_at: float
    """When the node asked its engine."""
    ended_at: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used up between two looks."""

    seconds: float
    commands: int
    by_command: dict[str, int]
    broker_cpu_s: float
    hub_cpu_s: float
    """Of one hub process, the mean of all."""
    farms_cpu_s: float
    broker_in_bytes: int
    broker_out_bytes: int


class Site:
    """Starts parts, ends them all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.broker = BrokerProcess("valkey", folder, "--maxclients", "30000")
        self._grid = Grid(self.broker, folder)
        self._farms: list[Process] = []
        self._own: Broker | None = None
        self._hub: Hub | None = None

    async def start(self, hubs: int) -> None:
        """Start so many hubs, one of them in this process."""
        await self.start_hubs(hubs - 1)
        settings = HubSettings(
            redis_url=self.broker.url, name="timed", max_queue=MANY, max_open_requests=MANY, queue_timeout_s=3600
        )
        configure_logs(LogFormat.CONSOLE, "ERROR")
        self._own = connect(settings.redis_url, prefix=settings.prefix, client_name="timed")
        self._hub = Hub(settings, self._own)
        self._hub.start()

    async def start_hubs(self, hubs: int) -> None:
        """Start so many hubs that are timed from the outside only."""
        env = {"GHUB_HUB_MAX_QUEUE": str(MANY), "GHUB_LOG_LEVEL": "ERROR"}
        for _ in range(hubs):
            await asyncio.to_thread(self._grid.hub, **env)

    async def stop(self) -> None:
        """End everything."""
        for farm in self._farms:
            farm.kill()
        if self._hub is not None:
            await self._hub.crew.stop()
        if self._own is not None:
            await self._own.aclose()
        self._grid.close()
        self.broker.stop()

    @property
    def hub(self) -> Hub:
        """The one in this process."""
        assert self._hub is not None
        return self._hub

    def farm(self, nodes: int, first: int, *options: str) -> Process:
        """Start a process of so many nodes, which are `nodes` not before a while."""
        argv = python("-m", "bench.scale.farm", self.broker.url, "--nodes", str(nodes), "--first", str(first), *options)
        farm = Process("farm", argv, self._folder / f"farm-{first}-{len(self._farms)}.log", afresh=True)
        self._farms.append(farm)
        return farm

    async def clear(self) -> None:
        """End all nodes, and wait until their leases have run out."""
        for farm in self._farms:
            farm.kill()
        self._farms.clear()
        await self.until(lambda: not self._view.nodes, 30, "the nodes are gone")

    async def has(self, nodes: int) -> None:
        """Wait until this process' hub sees so many nodes; without one, until they stand in the index."""
        await self.until(lambda: self._seen() == nodes, 300, f"{nodes} nodes are there")

    def _seen(self) -> int:
        if self._hub is not None:
            return len(self._view.nodes)
        with self.broker.client() as client:
            return int(client.zcard(Keys().nodes))  # type: ignore[arg-type]

    async def until(self, condition: Any, within_s: float, what: str) -> float:  # noqa: ANN401
        """Wait for a condition, how many seconds; AssertionError past the limit, with the farms' words."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() > began + within_s:
                raise AssertionError(f"not within {within_s} s: {what}; {[one.tail(500) for one in self._farms]}")
            await asyncio.sleep(LOOK_S)
        return time.monotonic() - began

    async def ask(self, model: str) -> Timing:
        """One request through the hub of this process."""
        submitted_at = time.monotonic()
        body = orjson.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]})
        submission = Submission("/v1/chat/completions", ModelId(model), body, stream=False, caller=ANYONE)
        request = await self.hub.dispatcher.submit(submission)
        published_at = time.monotonic()
        data = b""
        try:
            while not request.is_finished:
                await request.advance()
                data += request.take()
        except RequestFailed as exc:
            request.failed_with = exc
            raise
        except ClientGone:
            pass
        finally:
            self.hub.dispatcher.close(request)
        answer = orjson.loads(data)
        return Timing(answer["node"], submitted_at, published_at, answer["asked_at_ns"] / 1e9, time.monotonic())

    async def use(self, for_s: float) -> Usage:
        """What the parts use while this process does nothing."""
        before, began = await asyncio.to_thread(self._look), time.monotonic()
        await asyncio.sleep(for_s)
        after = await asyncio.to_thread(self._look)
        seconds = time.monotonic() - began
        calls = Counter(after["calls"])
        calls.subtract(before["calls"])
        difference = {name: after[name] - before[name] for name in after if name != "calls"}
        return Usage(
            seconds=seconds,
            commands=difference["commands"],
            by_command={name: count for name, count in calls.most_common() if count > 0},
            broker_cpu_s=difference["broker"],
            hub_cpu_s=difference["hubs"] / len(self._grid.hubs),
            farms_cpu_s=difference["farms"],
            broker_in_bytes=difference["in"],
            broker_out_bytes=difference["out"],
        )

    def memory(self) -> tuple[int, int, int]:
        """Bytes: what the broker says that it uses, its process' and the largest hub process' resident memory."""
        with self.broker.client() as client:
            used = client.info("memory")["used_memory"]
        hubs = [psutil.Process(one.pid).memory_info().rss for one in self._grid.hubs.values()]
        return used, psutil.Process(self.broker.process.pid).memory_info().rss, max(hubs)

    @property
    def waiting(self) -> int:
        """How many requests of this process' hub no node has."""
        return sum(one.is_waiting for one in self.hub.dispatcher.open_requests)

    @property
    def running(self) -> int:
        """How many of them some node has."""
        return sum(not one.is_waiting for one in self.hub.dispatcher.open_requests)

    @property
    def _view(self) -> Any:  # noqa: ANN401 - the hub's own
        return self.hub._view  # noqa: SLF001 - timed as it is

    async def refresh_ms(self, times: int) -> float:
        """How long one refresh of this hub's picture takes, a second after the last, ms; the median of so many."""
        took = []
        for _ in range(times):
            await asyncio.sleep(1)
            began = time.perf_counter()
            with suppress(BrokerError):
                await self._view.refresh()
            took.append((time.perf_counter() - began) * 1000)
        return sorted(took)[times // 2]

    def _look(self) -> dict[str, Any]:
        with self.broker.client() as client:
            stats = client.info("stats")
            calls = {name.removeprefix("cmdstat_"): one["calls"] for name, one in client.info("commandstats").items()}
        return {
            "commands": stats["total_commands_processed"],
            "calls": calls,
            "in": stats["total_net_input_bytes"],
            "out": stats["total_net_output_bytes"],
            "broker": cpu_s(self.broker.process.pid),
            "hubs": sum(cpu_s(one.pid) for one in self._grid.hubs.values()),
            "farms": sum(cpu_s(one.pid) for one in self._farms),
        }
