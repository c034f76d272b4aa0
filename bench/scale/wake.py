"""What it costs the broker that many idle nodes wait for jobs: CPU of one publish, by readers and by lanes of each.

    uv run --group bench python -m bench.scale.wake        # a minute

When a job comes into a lane, Valkey runs the XREADGROUP of every reader that is blocked there once more, and all but
the first block again on all of their lanes. Nothing but the broker is measured: readers are bare connections, and jobs
come one at a time.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import hiredis

from bench.ending import end_when_told
from bench.ground import cpu_s
from tests.support.brokers import BrokerProcess

CASES = ((10, 9, 20), (100, 9, 20), (1000, 9, 20), (1000, 3, 1), (1000, 60, 20))
"""Readers, lanes of each, models."""
PUBLISHES = 300
GAP_S = 0.002
WAIT_TIMES = 600
URGENCIES = 3
BLOCK_MS = 600_000


async def read_on(port: int, name: str, lanes: list[str], taken: "asyncio.Queue[float]") -> None:
    """Wait for jobs as an idle node does, until cancelled."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = ("XREADGROUP", "GROUP", "providers", name, "COUNT", 1, "BLOCK", BLOCK_MS, "STREAMS")
    command = hiredis.pack_command((*head, *lanes, *(">" for _ in lanes)))
    parser = hiredis.Reader()
    writer.write(command)
    while True:
        parser.feed(await reader.read(65536))
        while parser.gets() is not False:
            taken.put_nowait(time.perf_counter())
            writer.write(command)


async def measure(broker: BrokerProcess, readers: int, lanes: int, models: int) -> str:
    """A row of the table."""
    taken: asyncio.Queue[float] = asyncio.Queue()
    own = lanes // URGENCIES
    with broker.client() as client:
        client.flushall()
        for model in range(models):
            for urgency in range(URGENCIES):
                client.xgroup_create(f"{urgency}:{model}", "providers", "0", mkstream=True)
        mine = [
            [f"{urgency}:{(reader + step) % models}" for urgency in range(URGENCIES) for step in range(own)]
            for reader in range(readers)
        ]
        tasks = [
            asyncio.create_task(read_on(broker.port, f"n{number}", names, taken)) for number, names in enumerate(mine)
        ]
        for _ in range(WAIT_TIMES):
            if _blocked(client) >= readers:
                break
            await asyncio.sleep(0.05)
        hand_off, before = [], cpu_s(broker.process.pid)
        for number in range(PUBLISHES):
            began = time.perf_counter()
            client.xadd(f"1:{number % min(models, readers)}", {"v": "1"})
            hand_off.append((await taken.get() - began) * 1000)
            await asyncio.sleep(GAP_S)
        cpu_ms = (cpu_s(broker.process.pid) - before) / PUBLISHES * 1000
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    on_a_lane = readers * own // models
    return f"| {readers:,} | {lanes} | {on_a_lane:,} | {cpu_ms:.2f} | {statistics.median(hand_off):.2f} |"


def _blocked(client: Any) -> int:  # noqa: ANN401 - redis-py's
    return int(client.info("clients")["blocked_clients"])


def main() -> None:
    print("| readers | lanes of each | readers on a lane | broker, CPU ms a publish | to the reader, ms |")
    print("|---|---|---|---|---|")
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            broker = BrokerProcess("valkey", Path(folder))
            try:
                print(asyncio.run(measure(broker, *case)), flush=True)
            finally:
                broker.stop()


if __name__ == "__main__":
    end_when_told()
    main()
