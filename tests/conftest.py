"""Fixtures that all suites share: real brokers, and grids of real processes on them."""

import gc
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from xdist.scheduler import LoadFileScheduling

from tests.doubles.nvml.build import build_library
from tests.support.broker_kinds import BROKER_KINDS
from tests.support.brokers import KINDS, BrokerProcess
from tests.support.grid import Grid
from tests.support.nursery import SHARED, open_nursery
from tests.support.nvml import StubNvml

HERE = Path(__file__).parent


QUICK = "unit"
"""The folder of many short files: half of them come last, so that no worker is left alone with a long one."""

SHARING = ("tests/acceptance", "tests/browser")
ALONE = ("test_readme.py",)
"""Long, and shares nothing."""


def pytest_configure(config: pytest.Config) -> None:
    """All processes of a run share one nursery, have a user's surroundings, and leave garbage while they collect."""
    os.environ.pop("PYTHONUNBUFFERED", None)  # with it, nobody notices that something is not flushed
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so whatever a script starts in the background begins
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput") and SHARED not in os.environ:
        os.environ[SHARED] = open_nursery()
    gc.disable()
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)  # rich takes 0.2 s for one
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])


def pytest_collection_finish() -> None:
    """What stays until the end need not be looked through again and again."""
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    """What the acceptance suite runs on."""
    parser.addoption("--broker", choices=[*BROKER_KINDS], default="valkey", help="the broker of the acceptance suite")


class BySharing(LoadFileScheduling):
    """Gives files to workers, but those that share what is dear all to one: a browser, or the real engine."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        folder, name = file.rpartition("/")[::2]
        return folder if folder in SHARING and name not in ALONE else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> BySharing:
    """How tests are handed out where several processes run them."""
    return BySharing(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread each folder over the run, its slow files first: so those that wait run beside those that compute."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    folders: dict[str, list[Path]] = {}
    for file in sorted({item.path for item in items}, key=lambda file: (-slow[file], file)):
        folders.setdefault(file.relative_to(HERE).parts[0], []).append(file)
    turns = {
        file: n / len(files) + (0.5 if folder == QUICK else 0)
        for folder, files in folders.items()
        for n, file in enumerate(files)
    }
    items.sort(key=lambda item: turns[item.path])


@pytest.fixture(scope="session", params=KINDS)
def any_broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """Each real broker in turn, shared; a test that uses it begins with an empty one (see `clean_broker`)."""
    broker = BrokerProcess(request.param, tmp_path_factory.mktemp(request.param))
    yield broker
    broker.stop()


@pytest.fixture
def clean_broker(any_broker: BrokerProcess) -> BrokerProcess:
    """A real broker, emptied; the test runs once on each kind."""
    with any_broker.client() as client:
        client.flushall()
    return any_broker


@pytest.fixture(scope="session")
def _shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    broker = BrokerProcess("valkey", tmp_path_factory.mktemp("valkey-shared"))
    yield broker
    broker.stop()


@pytest.fixture
def valkey(_shared_valkey: BrokerProcess) -> BrokerProcess:
    """A Valkey, emptied."""
    with _shared_valkey.client() as client:
        client.flushall()
    return _shared_valkey


@pytest.fixture
def grid(valkey: BrokerProcess, tmp_path: Path) -> Iterator[Grid]:
    """An empty grid on Valkey."""
    grid = Grid(valkey, tmp_path)
    yield grid
    grid.close()


@pytest.fixture
def grid_on_any(clean_broker: BrokerProcess, tmp_path: Path) -> Iterator[Grid]:
    """An empty grid on each kind of broker in turn."""
    grid = Grid(clean_broker, tmp_path)
    yield grid
    grid.close()


@pytest.fixture(scope="session")
def _nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def gpu(_nvml_library: Path, tmp_path: Path) -> StubNvml:
    """A machine's GPUs: one, idle, until the test says otherwise."""
    return StubNvml(tmp_path, _nvml_library)
