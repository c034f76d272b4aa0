"""What it costs a hub that people look at a large grid: CPU with nobody watching, with one, with several.

    uv run python -m bench.overview
    uv run python -m bench.overview --nodes 200 --queued 2000 --serve     # until Ctrl-C, to look at it in a browser

The hub is a real one, the broker a real Valkey. The nodes renew their entries as real ones do; the requests are real
ones that wait in the hub's queues, since no node has a free slot.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import aiohttp

from bench.ending import end_when_told
from bench.ground import cpu_s, empty_grid
from common.broker.broker import connect
from tests.support.crowd import NodeCrowd
from tests.support.grid import Grid, chat
from tests.support.processes import until

MEASURE_S = 20.0
SETTLE_S = 6.0
MODELS = [f"model-{number:02}:8b" for number in range(20)]


async def wait_in_queue(session: aiohttp.ClientSession, hub: str, model: str) -> None:
    """Ask for a stream and read what comes until cancelled."""
    async with session.post(f"{hub}/v1/chat/completions", json=chat(model=model, stream=True)) as answer:
        async for _ in answer.content:
            pass


async def watch(session: aiohttp.ClientSession, hub: str, read: list[int]) -> None:
    """Watch as a dashboard does until cancelled; `read` counts the bytes."""
    async with session.get(f"{hub}/api/overview/stream") as answer:
        async for line in answer.content:
            read[0] += len(line)


@asynccontextmanager
async def crowded(grid: Grid, nodes: int, queued: int) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """A hub with so many nodes and waiting requests."""
    broker = connect(grid.broker.url, prefix="ghub:", client_name="crowd")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(broker.aclose)
        tasks = [asyncio.create_task(NodeCrowd(broker, nodes, MODELS).run())]

        async def end() -> None:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        stack.push_async_callback(end)
        hub = await asyncio.to_thread(grid.hub, GHUB_HUB_QUEUE_TIMEOUT_S="86400")
        timeout = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=timeout, connector=connector, read_bufsize=2**20)
        )
        await asyncio.to_thread(lambda: until(lambda: grid.status(hub, "/health/ready") == 200, 20, "ready"))
        await asyncio.sleep(3)
        tasks += [
            asyncio.create_task(wait_in_queue(session, hub, MODELS[number % len(MODELS)])) for number in range(queued)
        ]
        for _ in range(120):
            async with session.get(f"{hub}/api/overview") as answer:
                totals = (await answer.json())["totals"]
            if totals["waiting"] >= queued and totals["nodes"] >= nodes:
                break
            await asyncio.sleep(0.5)
        print(f"{hub}: {totals['nodes']} nodes, {totals['waiting']} waiting, {totals['running']} running", flush=True)
        yield hub, session


async def measure(grid: Grid, nodes: int, queued: int, watchers: Sequence[int]) -> None:
    """Print a table: CPU of hub and broker by the number of watchers, each measured between two without any."""
    async with crowded(grid, nodes, queued) as (hub, session):
        processes = {"hub": grid.hubs[hub].pid, "broker": grid.broker.process.pid}

        async def used(count: int) -> tuple[dict[str, float], float]:
            read = [0]
            tasks = [asyncio.create_task(watch(session, hub, read)) for _ in range(count)]
            await asyncio.sleep(SETTLE_S)
            before, begun = {name: cpu_s(pid) for name, pid in processes.items()}, read[0]
            await asyncio.sleep(MEASURE_S)
            cpu = {name: (cpu_s(pid) - before[name]) / MEASURE_S for name, pid in processes.items()}
            for task in tasks:
                task.cancel()
            return cpu, (read[0] - begun) / MEASURE_S / max(1, count)

        print("| watching | hub, % of a core | more than with nobody | broker, % | KB/s each |\n|---|---|---|---|---|")
        idle_before, _ = await used(0)
        for count in watchers:
            cpu, rate = await used(count)
            idle_after, _ = await used(0)
            idle = (idle_before["hub"] + idle_after["hub"]) / 2
            print(
                f"| {count} | {cpu['hub']:.1%} | {cpu['hub'] - idle:.1%} | {cpu['broker']:.1%} | {rate / 1000:.0f} |",
                flush=True,
            )
            idle_before = idle_after


async def serve(grid: Grid, nodes: int, queued: int) -> None:
    """Keep the crowd until Ctrl-C."""
    async with crowded(grid, nodes, queued):
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--queued", type=int, default=2000)
    parser.add_argument("--watchers", type=lambda text: [int(one) for one in text.split(",")], default=[1, 5])
    parser.add_argument("--serve", action="store_true")
    options = parser.parse_args()
    with empty_grid() as grid, suppress(KeyboardInterrupt):
        if options.serve:
            asyncio.run(serve(grid, options.nodes, options.queued))
        else:
            asyncio.run(measure(grid, options.nodes, options.queued, options.watchers))


if __name__ == "__main__":
    end_when_told()
    main()
