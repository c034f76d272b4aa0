"""What this node's entry in the registry says."""

import socket

from common import __version__
from common.records.grid import NodeRecord
from common.types import RequestId
from provider.jobs.own_lanes import OwnLanes
from provider.jobs.runner import Runner
from provider.machine import Machine
from provider.standing import Standing


class OwnRecord:
    """Puts it together. `instance` tells this process from others of its name."""

    def __init__(self, instance: str, machine: Machine, standing: Standing, runner: Runner, lanes: OwnLanes) -> None:
        self._instance = instance
        self._machine = machine
        self._standing = standing
        self._runner = runner
        self._lanes = lanes
        self._started_at = 0

    def at(self, now_ms: int) -> NodeRecord:
        """As things stand now, with this moment on the broker's clock (Unix ms)."""
        self._started_at = self._started_at or now_ms
        machine, standing, running = self._machine, self._standing, self._runner.progress(now_ms)
        return NodeRecord(
            node=standing.node,
            instance=self._instance,
            version=__version__,
            hostname=socket.gethostname(),
            state=standing.state,
            reasons=machine.gate.reasons,
            # Lanes are there before the registry names their models: a hub knows every model that a node serves.
            models=tuple(model for model in machine.engine.models if model in self._lanes.access.models),
            loaded=machine.engine.status.loaded,
            slots=machine.slots.total,
            requests=tuple(RequestId(str(one["id"])) for one in running),
            running=running,
            engine=standing.engine().model_dump(),
            started_at=self._started_at,
            heartbeat_at=now_ms,
            gpus=tuple(gpu.model_dump() for gpu in standing.gpus()),
            public_url=standing.public_url,
            near=int(self._lanes.near is not None),
        )
