"""Retries of jobs that failed for good: none is lost, whatever happens to the hub that was asked for it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.doubles.process import EngineProcess
from tests.support import leftovers
from tests.support.call import post
from tests.support.grid import Grid, chat
from tests.support.operator import ADMIN, ask, told
from tests.support.processes import until

ENV = {"GHUB_HEARTBEAT_S": "0.3", "GHUB_HUB_MAX_ATTEMPTS": "1", **ADMIN}


@pytest.fixture(scope="module")
def _engine(module_grid: Grid) -> EngineProcess:
    engine = module_grid.engine()
    module_grid.provider(engine.url, GHUB_HEARTBEAT_S="0.3")
    return engine


@pytest.fixture
def engine(_engine: EngineProcess, module_grid: Grid) -> Iterator[EngineProcess]:
    """The engine of the one node; each test leaves it well and free."""
    _engine.reset()
    yield _engine
    _engine.configure()
    until(lambda: _engine.state()["open"] == 0, 10, _engine.state)
    with module_grid.redis() as client:
        leftovers.until_at_rest(client, 5)


def _hub(grid: Grid) -> str:
    url = grid.hub(**ENV)
    grid.wait_for_model(url, "tiny:1b")
    return url


def _dead(hub: str) -> list[dict[str, Any]]:
    return list(told(hub, "GET", "/api/dead")["dead"])


def _a_job_dies(hub: str, engine: EngineProcess) -> str:
    """A job that only its engine was to blame for; its letter."""
    engine.configure(status=500, error_body="broken for now")
    assert post(hub, chat(tokens=3)).status >= 500
    engine.configure()
    engine.reset()
    until(lambda: _dead(hub), 5, "the job is buried")
    ((letter),) = _dead(hub)
    return str(letter["id"])


def test_a_retry_that_goes_well_is_the_end_of_its_letter(module_grid: Grid, engine: EngineProcess) -> None:
    hub = _hub(module_grid)
    letter = _a_job_dies(hub, engine)
    request = told(hub, "POST", f"/api/dead/{letter}/retry", status=202)["request"]
    until(lambda: told(hub, "GET", f"/api/requests/{request}")["status"] == "done", 5, "it is run")
    until(lambda: _dead(hub) == [], 5, "the letter goes")
    assert engine.state()["finished"] == 1


def test_a_job_is_not_retried_twice_at_once(module_grid: Grid, engine: EngineProcess) -> None:
    hub = _hub(module_grid)
    letter = _a_job_dies(hub, engine)
    engine.configure(prefill_ms=600_000)
    request = told(hub, "POST", f"/api/dead/{letter}/retry", status=202)["request"]
    answer = ask(hub, "POST", f"/api/dead/{letter}/retry")
    assert (answer.status, answer.error["code"]) == (409, "being_retried")
    assert [one["retried_as"] for one in _dead(hub)] == [request]
    until(lambda: engine.state()["open"] == 1, 5, engine.state)
    told(hub, "DELETE", f"/api/requests/{request}", status=202)
    until(lambda: [one["retried_as"] for one in _dead(hub)] == [None], 5, "it was cancelled, and can be retried again")
    told(hub, "DELETE", f"/api/dead/{letter}")


def test_a_hub_that_dies_while_it_retries_a_job_does_not_take_it_along(
    module_grid: Grid, engine: EngineProcess
) -> None:
    hub, other = _hub(module_grid), _hub(module_grid)
    letter = _a_job_dies(hub, engine)
    engine.configure(prefill_ms=600_000)
    told(hub, "POST", f"/api/dead/{letter}/retry", status=202)
    until(lambda: engine.state()["open"] == 1, 5, engine.state)
    module_grid.hubs[hub].kill()
    engine.configure()
    until(lambda: engine.state()["open"] == 0, 10, engine.state)
    assert [one["id"] for one in _dead(other)] == [letter]
    told(other, "POST", f"/api/dead/{letter}/retry", status=202)
    until(lambda: _dead(other) == [], 5, "the letter goes when the job is done")
    assert engine.state()["finished"] == 1
