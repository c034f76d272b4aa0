"""A crowd of nodes that exist in the registry only: they renew their entries like real ones, and never take a job."""

import asyncio
import random
from collections.abc import Sequence
from uuid import uuid4

from common import __version__
from common.broker.broker import Broker
from common.broker.clock import BrokerClock
from common.records.grid import NodeRecord
from common.records.registry import Registry
from common.streams.jobs import JobLanes, lanes_of
from common.types import ModelId, NodeId, NodeState, RequestId

HEARTBEAT_S = 2.0
LEASE_MS = 6000
SLOTS = 4
GPU_MIB = 24_564


class NodeCrowd:
    """So many nodes, each with a GPU and all slots taken, a tenth of them paused by their owners.

    Args:
        broker: of the grid.
        count: of the nodes.
        models: each node serves three of them.
    """

    def __init__(self, broker: Broker, count: int, models: Sequence[str]) -> None:
        self._registry = Registry(broker)
        self._lanes = JobLanes(broker)
        self._clock = BrokerClock(broker)
        self._models = [ModelId(model) for model in models]
        self._dice = random.Random(7)
        self._requests = {
            NodeId(f"node-{number:03}"): [RequestId(uuid4().hex) for _ in range(SLOTS)] for number in range(count)
        }

    async def run(self) -> None:
        """Renew all entries every two seconds until cancelled."""
        await self._clock.sync()
        await self._lanes.ensure(lanes_of(self._models))
        started_at = self._clock.now_ms()
        while True:
            for number, (node, requests) in enumerate(self._requests.items()):
                await self._registry.write_node(self._record(number, node, requests, started_at), LEASE_MS)
                await asyncio.sleep(HEARTBEAT_S / len(self._requests))

    def _record(self, number: int, node: NodeId, requests: Sequence[RequestId], started_at: int) -> NodeRecord:
        now, models = self._clock.now_ms(), [self._models[(number + step) % len(self._models)] for step in range(3)]
        is_paused = number % 10 == 3
        running = () if is_paused else tuple(requests)
        return NodeRecord(
            node=node,
            instance="crowd",
            version=__version__,
            hostname=f"host-{number:03}",
            state=NodeState.PAUSED if is_paused else NodeState.BUSY,
            reasons=("gpu-busy",) if is_paused else (),
            models=tuple(models),
            loaded=(models[0],),
            slots=SLOTS,
            requests=running,
            engine={"kind": "ollama", "version": "0.30", "url": "http://127.0.0.1:11434", "capabilities": ["chat"]},
            started_at=started_at,
            heartbeat_at=now,
            gpus=(
                {
                    "name": "NVIDIA GeForce RTX 4090",
                    "uuid": f"GPU-{number:032x}",
                    "driver_version": "580.65",
                    "cuda_version": "13.0",
                    "memory_used_mib": self._dice.randrange(GPU_MIB),
                    "memory_total_mib": GPU_MIB,
                    "utilization_pct": self._dice.randrange(101),
                    "temperature_c": self._dice.randrange(30, 85),
                    "power_w": float(self._dice.randrange(20, 450)),
                },
            ),
            running=tuple(
                {
                    "id": request,
                    "model": models[0],
                    "lane": "interactive",
                    "attempt": 1,
                    "claimed_at": started_at,
                    "first_data_at": started_at + 150,
                    "tokens": (now - started_at) // 30,
                }
                for request in running
            ),
        )
