"""What is measured, part by part."""

import argparse
import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.scale.site import Site, Timing

MODELS = [f"model-{number:02}:8b" for number in range(20)]
NODES_PER_FARM = 500


class Bench:
    """The measurements, one after the other, on one site."""

    def __init__(self, site: Site, options: argparse.Namespace) -> None:
        self._site = site
        self._options = options

    async def at(self, nodes: int, parts: Sequence[str]) -> dict[str, Any]:
        """All that is measured at one number of nodes."""
        found: dict[str, Any] = {"nodes": nodes}
        site = self._site
        if "rest" in parts or "latency" in parts:
            await self.plant(nodes)
            found["refresh_ms"] = await site.refresh_ms(5)
            if "rest" in parts:
                found |= await self._rest()
            if "latency" in parts:
                found |= await self._latency(nodes)
            await site.clear()
        if "fairness" in parts:
            found["fairness"] = await self._fairness(nodes)
        return found

    async def plant(self, nodes: int, *options: str, models: Sequence[str] = MODELS, per_node: int = 3) -> None:
        """Have so many nodes, and let what follows a start pass."""
        shared = ("--models", ",".join(models), "--per-node", str(min(per_node, len(models))), *options)
        for first in range(0, nodes, NODES_PER_FARM):
            self._site.farm(min(NODES_PER_FARM, nodes - first), first, *shared)
        await self._site.has(nodes)
        await asyncio.sleep(8)  # settling, first looks at lanes

    async def _rest(self) -> dict[str, Any]:
        used = await self._site.use(self._options.rest_s)
        memory = self._site.memory()
        return {
            "commands_per_s": used.commands / used.seconds,
            "by_command": {name: round(count / used.seconds, 1) for name, count in used.by_command.items()},
            "broker_cpu": used.broker_cpu_s / used.seconds,
            "hub_cpu": used.hub_cpu_s / used.seconds,
            "farms_cpu": used.farms_cpu_s / used.seconds,
            "broker_in_kb_s": used.broker_in_bytes / used.seconds / 1000,
            "broker_out_kb_s": used.broker_out_bytes / used.seconds / 1000,
            "broker_used_mib": memory[0] / 2**20,
            "broker_rss_mib": memory[1] / 2**20,
            "hub_rss_mib": memory[2] / 2**20,
        }

    async def _latency(self, nodes: int) -> dict[str, Any]:
        """Few requests, one at a time on average: what the wait for each other adds is no cost of the grid's size."""
        known = MODELS[: min(nodes, len(MODELS))]
        tasks: list[asyncio.Task[Timing]] = []
        for number in range(self._options.requests):
            tasks.append(asyncio.create_task(self._site.ask(known[number % len(known)])))
            await asyncio.sleep(1 / self._options.rate)
        timings = await asyncio.gather(*tasks)
        admission = [(one.published_at - one.submitted_at) * 1000 for one in timings]
        hand_off = [(one.asked_at - one.published_at) * 1000 for one in timings]
        whole = [(one.ended_at - one.submitted_at) * 1000 for one in timings]
        return {
            "admission_ms": percentiles(admission),
            "hand_off_ms": percentiles(hand_off),
            "whole_ms": percentiles(whole),
            "busiest_at_rest": spread([one.node for one in timings], nodes),
        }

    async def control(self, nodes: int, others: int, folder: Path) -> dict[str, Any]:
        """Latencies of a small grid while another one on this machine, with a broker of its own, has many nodes.

        What a large grid takes more than that, it takes since it is large; the rest is this machine's.
        """
        other = Site(folder)
        try:
            await other.start_hubs(1)
            await Bench(other, self._options).plant(others)
            await self.plant(nodes)
            found = {"nodes": nodes, "others": others, **await self._latency(nodes)}
            await self._site.clear()
        finally:
            await other.stop()
        return found

    async def _fairness(self, nodes: int) -> dict[str, Any]:
        """Nodes with two slots, kept half busy, then a queue of four jobs a slot: how much more the busiest gets."""
        answer_s = max(1.0, nodes / 150)
        options = ("--slots", "2", "--answer-ms", str(answer_s * 1000))
        await self.plant(nodes, *options, models=MODELS[:1])
        half = await self._loop(clients=nodes, for_s=5 * answer_s)
        queue = await asyncio.gather(*(self._site.ask(MODELS[0]) for _ in range(nodes * 8)))
        short = await asyncio.gather(*(self._site.ask(MODELS[0]) for _ in range(nodes)))
        await self._site.clear()
        await self.plant(nodes, *options, "--quick-of-ten", "5", models=MODELS[:1])
        mixed = await asyncio.gather(*(self._site.ask(MODELS[0]) for _ in range(nodes * 16)))
        await self._site.clear()
        served = Counter(one.node for one in mixed)
        quick = sum(count for node, count in served.items() if int(node[-4:]) % 10 < 5)
        return {
            "half_busy": spread([one.node for one in half], nodes),
            "queue_of_4_a_slot": spread([one.node for one in queue], nodes),
            "one_job_a_node": spread([one.node for one in short], nodes),
            "twice_as_quick_gets": quick / max(1, len(mixed) - quick),
        }

    async def _loop(self, clients: int, for_s: float) -> list[Timing]:
        until, timings = time.monotonic() + for_s, list[Timing]()

        async def client() -> None:
            while time.monotonic() < until:
                timings.append(await self._site.ask(MODELS[0]))

        await asyncio.gather(*(client() for _ in range(clients)))
        return timings

    async def backlog(self, nodes: int) -> dict[str, Any]:
        """So many jobs wait while every slot of all nodes is taken; then what the grid costs, and memory."""
        site, queued = self._site, self._options.queued
        await self.plant(nodes, "--slots", "1", "--answer-ms", "600000")
        began, empty = time.monotonic(), site.memory()[0]
        tasks = [asyncio.create_task(site.ask(MODELS[at % len(MODELS)])) for at in range(nodes + queued)]
        await site.until(lambda: site.waiting >= queued and site.running >= nodes, 120, "the queue is there")
        took_s = time.monotonic() - began
        await asyncio.sleep(6)
        used, memory = await site.use(self._options.rest_s), site.memory()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await site.clear()
        return {
            "nodes": nodes,
            "queued": queued,
            "published_per_s": (nodes + queued) / took_s,
            "commands_per_s": used.commands / used.seconds,
            "broker_cpu": used.broker_cpu_s / used.seconds,
            "hub_cpu": used.hub_cpu_s / used.seconds,
            "broker_kb_a_job": (memory[0] - empty) / (nodes + queued) / 1000,
            "broker_used_mib": memory[0] / 2**20,
        }

    async def reaper(self, dying: int) -> dict[str, Any]:
        """So many nodes die at once with a job each: how long until others have begun them all."""
        site, model = self._site, ["doomed:1b"]
        shared = ("--models", model[0])
        doomed = site.farm(dying, 0, *shared, "--slots", "1", "--answer-ms", "600000")
        await site.has(dying)
        await asyncio.sleep(4)
        tasks = [asyncio.create_task(site.ask(model[0])) for _ in range(dying)]
        await site.until(lambda: site.running == dying, 30, "every node has a job")
        site.farm(dying, dying, *shared, "--slots", "1")
        await site.has(2 * dying)
        await asyncio.sleep(5)
        doomed.kill()
        died_at = time.monotonic()
        taken_s = sorted(one.asked_at - died_at for one in await asyncio.gather(*tasks))
        await site.clear()
        return {"dying": dying, "first_s": taken_s[0], "median_s": statistics.median(taken_s), "last_s": taken_s[-1]}


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p99 and most."""
    ordered = sorted(values)
    return {"p50": ordered[len(ordered) // 2], "p99": ordered[int(len(ordered) * 0.99)], "most": ordered[-1]}


def spread(served_by: Sequence[str], nodes: int) -> float:
    """How much more than the mean the busiest node did."""
    return max(Counter(served_by).values()) / (len(served_by) / nodes)
