"""A grid that the tests of one module share, for those that don't hurt one another."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.support.brokers import BrokerProcess
from tests.support.call import Call
from tests.support.grid import Grid
from tests.support.pair import QUICK, Pair


@pytest.fixture(scope="module")
def module_grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    """An empty grid on a Valkey of its own."""
    folder = tmp_path_factory.mktemp("grid")
    broker = BrokerProcess("valkey", folder)
    grid = Grid(broker, folder)
    yield grid
    grid.close()
    broker.stop()


@pytest.fixture
def mortal_grid(tmp_path: Path) -> Iterator[Grid]:
    """An empty grid on a Valkey of its own, which the test may kill."""
    broker = BrokerProcess("valkey", tmp_path)
    grid = Grid(broker, tmp_path)
    yield grid
    grid.close()
    broker.kill()


@pytest.fixture(scope="module")
def hub(module_grid: Grid) -> str:
    """A hub for pairs of nodes."""
    return module_grid.hub(GHUB_HUB_FIRST_COMMENT_S="0.3", **QUICK)


@pytest.fixture
def make_pair(module_grid: Grid, hub: str) -> Iterator[Callable[..., Pair]]:
    """Makes pairs with settings of their own."""
    made: list[Pair] = []

    def make(*, wait: bool = True, **env: str) -> Pair:
        made.append(Pair(module_grid, hub, wait=wait, **env))
        return made[-1]

    yield make
    for pair in made:
        pair.end()


@pytest.fixture
def pair(make_pair: Callable[..., Pair]) -> Pair:
    """Two nodes, the first of them running."""
    return make_pair()


@pytest.fixture(autouse=True)
def _no_call_stays_open() -> Iterator[None]:
    yield
    for call in [*Call.open]:
        call.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the ends of all logs where a test failed."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Grid):
                report.sections.append(("grid", "\n".join(value.logs())))
    return report
