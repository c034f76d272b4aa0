"""The real parts together: Valkey, llama.cpp with its real model, a hub and a provider, and the real OpenAI SDK."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import httpx2
import openai
import pytest

from tests.support.brokers import BrokerProcess
from tests.support.grid import Grid
from tests.support.ports import free_port
from tests.support.processes import Process, python, until

MODEL = "smollm2:135m"
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
def real_grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealGrid]:
    folder = tmp_path_factory.mktemp("acceptance")
    port = free_port()
    argv = python("-m", "ghub.engine", "--port", str(port), "--slots", str(SLOTS))
    engine = Process("llama.cpp", argv, folder / "engine.log")
    broker = BrokerProcess("valkey", folder)
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: _is_up(f"{url}/health"), 60, engine.tail)
        with closing(Grid(broker, folder)) as grid:
            hub_url = grid.hub()
            grid.provider(url, name="llama")
            grid.wait_for_model(hub_url, MODEL)
            yield RealGrid(hub_url, url, broker)
    finally:
        engine.stop()
        broker.stop()


@pytest.fixture
def client(real_grid: RealGrid) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{real_grid.hub_url}/v1", api_key="unused", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
def idle(real_grid: RealGrid) -> Callable[[float], None]:
    """Fails unless every slot of llama.cpp is idle within so many seconds."""
    return lambda within_s: until(lambda: real_grid.busy_slots() == 0, within_s, "slots are still busy")


def _is_up(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=1).status_code == 200
    except httpx2.HTTPError:
        return False
