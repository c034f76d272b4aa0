"""A provider that waits for its broker: it serves direct calls all the same, and stops in order."""

import signal
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.doubles.reading import numbered
from tests.support.call import Call, get
from tests.support.grid import Grid, chat
from tests.support.processes import until

CALL = chat(tokens=60, stream=True, double={"delay_ms": 20})


@pytest.fixture
def silent_broker() -> Iterator[str]:
    """It takes connections and never says a word."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def waiting(module_grid: Grid, silent_broker: str) -> tuple[Grid, str]:
    """A node that waits, and takes direct calls meanwhile."""
    grid = module_grid
    node = grid.provider(
        grid.engine().url,
        f"waiting-{len(grid.providers)}",
        wait=False,
        GHUB_REDIS_URL=silent_broker,
        GHUB_PROVIDER_SERVER__REQUIRE_HMAC="false",
    )
    url = grid.provider_urls[node]
    until(
        lambda: grid.status(url, "/busy") == 200 and not get(url, "/busy").json["busy"], 15, grid.providers[node].tail
    )
    return grid, node


def test_a_direct_call_may_finish_when_a_provider_stops_that_never_saw_its_broker(waiting: tuple[Grid, str]) -> None:
    grid, node = waiting
    with Call(grid.provider_urls[node], CALL) as call:
        call.wait_for("t3 ")
        grid.providers[node].signal(signal.SIGTERM)
        assert call.finish().said == numbered(0, 60)
    assert grid.providers[node].wait(5) == 0
    assert "Traceback" not in grid.providers[node].tail(100_000)


def test_a_broker_that_says_nothing_does_not_hold_up_the_end(waiting: tuple[Grid, str]) -> None:
    grid, node = waiting
    grid.providers[node].signal(signal.SIGTERM)
    assert grid.providers[node].wait(2) == 0
