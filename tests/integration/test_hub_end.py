"""More ways for a hub to end: with answers that aren't streamed, with clients that read nothing, beside another hub."""

import signal
import time
from collections.abc import Iterator

import pytest

from tests.doubles.process import EngineProcess
from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import Call, post
from tests.support.grid import Grid, chat
from tests.support.processes import Process, until

SLOTS = 2
FREE_WITHIN_S = 5.0
"""From the end of a killed hub to that of its requests' generations, with the usual heartbeats."""
LIMIT_S = 0.4
LAST_WORDS_S = 2.0
SHORT = {"GHUB_HUB_SHUTDOWN_TIMEOUT_S": str(LIMIT_S), "GHUB_HUB_RETRY_AFTER_S": "7"}
SLOW = {"delay_ms": 20}
FOREVER = {"prefill_ms": 600_000}


@pytest.fixture(scope="module")
def _engine(module_grid: Grid) -> EngineProcess:
    engine = module_grid.engine(slots=8)
    module_grid.provider(engine.url, GHUB_HEARTBEAT_S="0.3", GHUB_PROVIDER_SLOTS=str(SLOTS))
    return engine


@pytest.fixture
def engine(_engine: EngineProcess, module_grid: Grid) -> Iterator[EngineProcess]:
    """The engine of the one node; after each test it is free, and its hubs left nothing in the broker."""
    _engine.reset()
    yield _engine
    _wait_open(_engine, 0)
    with module_grid.redis() as client:
        leftovers.until_at_rest(client, 3)


def _hub(grid: Grid, **env: str) -> tuple[str, Process]:
    url = grid.hub(**env)
    grid.wait_for_model(url, "tiny:1b")
    return url, grid.hubs[url]


def _wait_open(engine: EngineProcess, n: int, within_s: float = 5.0) -> float:
    return until(lambda: engine.state()["open"] == n, within_s, engine.state)


def test_a_stopping_hub_finishes_an_answer_that_is_not_streamed(module_grid: Grid, engine: EngineProcess) -> None:
    hub, process = _hub(module_grid, GHUB_HUB_SHUTDOWN_TIMEOUT_S="20")
    call = Call(hub, chat(tokens=60, double=SLOW))
    _wait_open(engine, 1)
    process.signal(signal.SIGTERM)
    answer = call.finish()
    assert (answer.status, answer.said) == (200, numbered(0, 60))
    assert process.wait(3) == 0


def test_requests_without_an_answer_by_the_limit_hear_a_true_status(module_grid: Grid, engine: EngineProcess) -> None:
    hub, process = _hub(module_grid, **SHORT)
    running = [Call(hub, chat(stream=stream, double=FOREVER)) for stream in (True, False)]
    _wait_open(engine, SLOTS)
    queued = [Call(hub, chat(stream=stream)) for stream in (True, False)]
    with module_grid.redis() as client:
        until(lambda: leftovers.jobs(client) == SLOTS + 2, 5, lambda: leftovers.told(client))
    process.signal(signal.SIGTERM)
    for call in running + queued:
        answer = call.finish()
        assert (answer.status, answer.error["code"]) == (503, "shutting_down")
        assert answer.headers["retry-after"] == "7"
    _wait_open(engine, 0, 1)
    assert process.wait(3) == 0
    assert engine.state()["started"] == SLOTS, "what waited must never reach the engine"


def test_a_client_that_reads_nothing_does_not_hold_up_the_end(module_grid: Grid, engine: EngineProcess) -> None:
    hub, process = _hub(module_grid, **SHORT)
    body = chat(tokens=100_000, stream=True, double={"event_bytes": 16_384, "delay_ms": 1})
    with Call(hub, body, receive_buffer_bytes=4096):
        _wait_open(engine, 1)
        process.signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(LIMIT_S + LAST_WORDS_S + 5) == 0
        print(f"figure: gone {time.monotonic() - began:.1f} s after the signal")
        _wait_open(engine, 0, 1)


def test_what_a_killed_hub_leaves_stands_in_nobodys_way(module_grid: Grid, engine: EngineProcess) -> None:
    """One of its jobs streams, one has said nothing yet, one waits; another hub's request comes after them."""
    hub, process = _hub(module_grid)
    other, _ = _hub(module_grid, GHUB_HUB_FIRST_COMMENT_S="0.1", GHUB_HUB_COMMENT_INTERVAL_S="0.5")
    streams = Call(hub, chat(tokens=100_000, stream=True, double=SLOW))
    streams.wait_for("t3 ")
    silent = Call(hub, chat(double=FOREVER))
    _wait_open(engine, SLOTS)
    waits = Call(hub, chat(stream=True))
    with module_grid.redis() as client:
        until(lambda: leftovers.jobs(client) == SLOTS + 1, 5, lambda: leftovers.told(client))
        process.kill()
        with Call(other, chat(tokens=5, stream=True)) as neighbour:
            neighbour.wait_for(": queued, 1 ahead")
            took_s = _wait_open(engine, 0, FREE_WITHIN_S)
            print(f"figure: engine free {took_s:.1f} s after the hub was killed")
            assert neighbour.finish().said == numbered(0, 5)
        leftovers.until_at_rest(client, 1)
    for call in (streams, silent, waits):
        call.close()


def test_the_requests_of_another_hub_do_not_notice_that_one_is_killed(module_grid: Grid, engine: EngineProcess) -> None:
    dying, process = _hub(module_grid)
    staying, _ = _hub(module_grid)
    assert post(dying, chat(tokens=3)).said == numbered(0, 3)
    with Call(staying, chat(tokens=60, stream=True, double=SLOW)) as call:
        call.wait_for("t3 ")
        process.kill()
        answer = call.finish()
    assert answer.said == numbered(0, 60)
    assert answer.is_ended_once
    assert engine.state()["started"] == 2
