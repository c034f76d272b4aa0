"""The real parts together: Valkey, llama.cpp with its real model, a hub and a provider, and the real OpenAI SDK."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import httpx2
import openai
import pytest

from tests.support.broker_kinds import BROKER_KINDS
from tests.support.brokers import BrokerProcess
from tests.support.grid import Grid
from tests.support.llamacpp import MODEL, real_llamacpp
from tests.support.processes import until

SLOTS = 2


@dataclass(frozen=True)
class RealGrid:
    """Where to reach the parts."""

    hub_url: str
    engine_url: str
    broker: BrokerProcess

    def running(self) -> int:
        """How many jobs providers hold."""
        (model,) = httpx2.get(f"{self.hub_url}/api/registry", timeout=10).json()["models"]
        return int(model["running"])

    def busy_slots(self) -> int:
        """How many slots llama.cpp works in now."""
        return sum(slot["is_processing"] for slot in httpx2.get(f"{self.engine_url}/slots", timeout=10).json())


@pytest.fixture(scope="session")
def real_grid(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealGrid]:
    folder = tmp_path_factory.mktemp("acceptance")
    broker = BROKER_KINDS[pytestconfig.getoption("--broker")](folder)
    try:
        with real_llamacpp(folder, SLOTS) as url, closing(Grid(broker, folder)) as grid:
            hub_url = grid.hub()
            grid.provider(url, name="llama")
            grid.wait_for_model(hub_url, MODEL)
            yield RealGrid(hub_url, url, broker)
    finally:
        broker.stop()


@pytest.fixture
def client(real_grid: RealGrid) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{real_grid.hub_url}/v1", api_key="unused", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
def idle(real_grid: RealGrid) -> Callable[[float], None]:
    """Fails unless every slot of llama.cpp is idle within so many seconds."""
    return lambda within_s: until(lambda: real_grid.busy_slots() == 0, within_s, "slots are still busy")
