"""The real parts together: Valkey, llama.cpp with its real model, a hub and a provider, and the real OpenAI SDK."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.support import late
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


@contextmanager
def grid_on(kind: str, engine_url: str, folder: Path) -> Iterator[RealGrid]:
    """A hub and a provider with the real engine, on a broker of this kind."""
    broker = BROKER_KINDS[kind](folder)
    try:
        with closing(Grid(broker, folder)) as grid:
            hub_url = grid.hub()
            grid.provider(engine_url, name="llama")
            grid.wait_for_model(hub_url, MODEL)
            yield RealGrid(hub_url, engine_url, broker)
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def real_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with real_llamacpp(tmp_path_factory.mktemp("engine"), SLOTS) as url:
        yield url


@pytest.fixture(scope="session")
def real_grid(
    pytestconfig: pytest.Config, real_engine: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealGrid]:
    with grid_on(pytestconfig.getoption("--broker"), real_engine, tmp_path_factory.mktemp("acceptance")) as grid:
        yield grid


@pytest.fixture
def client(real_grid: RealGrid) -> Iterator["late.openai.OpenAI"]:
    with late.openai.OpenAI(base_url=f"{real_grid.hub_url}/v1", api_key="unused", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
def anthropic_client(real_grid: RealGrid) -> Iterator["late.anthropic.Anthropic"]:
    with late.anthropic.Anthropic(base_url=real_grid.hub_url, api_key="unused", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
def ollama_client(real_grid: RealGrid) -> Iterator["late.ollama.Client"]:
    with late.ollama.Client(real_grid.hub_url, timeout=60) as client:
        yield client


@pytest.fixture
def idle(real_grid: RealGrid) -> Callable[[float], None]:
    """Fails unless every slot of llama.cpp is idle within so many seconds."""
    return lambda within_s: until(lambda: real_grid.busy_slots() == 0, within_s, "slots are still busy")
