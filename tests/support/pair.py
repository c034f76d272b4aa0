"""Two nodes that can do the same work: what one of them leaves, the other may take."""

import json
from functools import cached_property
from typing import Any

from tests.doubles.process import EngineProcess
from tests.support import leftovers
from tests.support.call import Call
from tests.support.grid import Grid, chat
from tests.support.processes import Process, until

QUICK = {"GHUB_HEARTBEAT_S": "0.3", "GHUB_PROVIDER_ENGINE__PROBE_INTERVAL_S": "0.3"}


class Pair:
    """Two nodes with a model of their own at a hub that many share; `second` starts when it is asked for."""

    def __init__(self, grid: Grid, hub: str, *, wait: bool = True, **env: str) -> None:
        number = len(grid.engines)
        self.grid, self.hub = grid, hub
        self.env = {**QUICK, "GHUB_PROVIDER_DRAIN_TIMEOUT_S": "0.4", **env}
        self.model = f"model-{number}:1b"
        self.first_node, self.second_node = f"first-{number}", f"second-{number}"
        self.first = grid.engine(self.model)
        self.start_first()
        if wait:
            grid.wait_for_node(self.first_node)
            grid.wait_for_model(hub, self.model)

    @cached_property
    def second(self) -> EngineProcess:
        """The second node's engine, started when it is first needed."""
        return self.grid.engine(self.model)

    @property
    def provider(self) -> Process:
        """The first node's process."""
        return self.grid.providers[self.first_node]

    def start_first(self) -> None:
        self.grid.provider(self.first.url, self.first_node, wait=False, **self.env)

    def start_second(self) -> None:
        self.grid.provider(self.second.url, self.second_node, **self.env)

    def call(self, tokens: int = 5, **body: Any) -> Call:
        return Call(self.hub, chat(model=self.model, tokens=tokens, **body))

    def ask_first(self, tokens: int = 5, **body: Any) -> Call:
        """A call whose job the first node has; its engine was asked."""
        call = self.call(tokens, **body)
        until(lambda: self.first.state()["open"] == 1, 5, self.first.state)
        return call

    def is_at_rest(self) -> None:
        """Nothing of any request for this pair is left in the broker, or soon won't be.

        Of others there may be: a pair that was ended the moment it had answered had no time to take its job off.
        """
        with self.grid.redis() as client:
            leftovers.until_at_rest(client, 2, f":{self.model}")

    def reasons(self) -> list[str]:
        """Why the first node takes no work."""
        return reasons(self.grid, self.first_node)

    def end(self) -> None:
        for name in (self.first_node, self.second_node):
            if name in self.grid.providers:
                self.grid.providers[name].kill()
        self.first.kill()
        if "second" in self.__dict__:
            self.second.kill()


def reasons(grid: Grid, node: str) -> list[str]:
    """Why a node takes no work, as the registry says."""
    with grid.redis() as client:
        found: list[str] = json.loads(grid.node(client, node).get("reasons", "[]"))
    return found
