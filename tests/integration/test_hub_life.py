"""How hubs come and go: what is open is finished or ends with an error, and nothing of it holds a slot."""

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import Answer, Call, get, post
from tests.support.grid import Chain, Grid, chat
from tests.support.ports import free_port
from tests.support.processes import Process, python, until

LIMIT_S = 0.8
SLOTS = 3


@pytest.fixture(scope="module")
def _chain(module_grid: Grid) -> Chain:
    return module_grid.chain(slots=8, provider_slots=SLOTS)


@pytest.fixture
def chain(_chain: Chain, module_grid: Grid) -> Iterator[Chain]:
    """A node and its engine with a hub of their own, which a test may end."""
    _chain.engine.reset()
    hub = module_grid.hub(GHUB_HUB_SHUTDOWN_TIMEOUT_S=str(LIMIT_S))
    module_grid.wait_for_model(hub, "tiny:1b")
    yield Chain(hub, _chain.node, _chain.engine)
    module_grid.hubs.pop(hub).kill()
    until(lambda: _chain.engine.state()["open"] == 0, 5, _chain.engine.state)
    with module_grid.redis() as client:
        leftovers.until_at_rest(client, 2)


def _end(grid: Grid, hub: str, number: signal.Signals = signal.SIGTERM) -> Process:
    process = grid.hubs[hub]
    process.signal(number)
    return process


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def _wait_open(chain: Chain, n: int) -> None:
    until(lambda: chain.engine.state()["open"] == n, 5, chain.engine.state)


def test_a_stopping_hub_finishes_its_streams_and_refuses_new_connections(chain: Chain, module_grid: Grid) -> None:
    call = Call(chain.hub, chat(tokens=30, stream=True, double={"delay_ms": 20}))
    call.wait_for("t3 ")
    process = _end(module_grid, chain.hub)
    until(lambda: module_grid.status(chain.hub, "/health/live") == 0, 1, "nobody is answered any more")
    with pytest.raises(ConnectionRefusedError):
        post(chain.hub, chat())
    answer = call.finish()
    assert answer.said == numbered(0, 30)
    assert answer.is_ended_once
    assert "error" not in answer.text
    assert process.wait(3) == 0


def test_what_began_to_arrive_before_a_hub_was_told_to_stop_is_answered(chain: Chain, module_grid: Grid) -> None:
    """A body that takes its time, and a connection that was made but has said nothing yet."""
    body = json.dumps(chat(tokens=5)).encode()
    early, connected, sends_on = socket.create_connection(_address(chain.hub)), threading.Event(), threading.Event()

    def slowly() -> Iterator[bytes]:
        yield body[:20]
        connected.set()
        sends_on.wait(5)
        yield body[20:]

    with early, ThreadPoolExecutor() as pool:
        slow = pool.submit(post, chain.hub, slowly(), headers={"content-length": str(len(body))})
        connected.wait(5)
        process = _end(module_grid, chain.hub)
        early.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        assert early.recv(100).startswith(b"HTTP/1.1 200")
        until(lambda: module_grid.status(chain.hub, "/health/live") == 0, 1, "nobody else is answered any more")
        sends_on.set()
        answer = slow.result(5)
    assert (answer.status, answer.said) == (200, numbered(0, 5))
    assert answer.headers["connection"] == "close"
    assert process.wait(3) == 0


@pytest.mark.usefixtures("chain")
def test_for_its_delay_a_stopping_hub_takes_what_comes_and_says_that_it_stops(module_grid: Grid) -> None:
    hub = module_grid.hub(GHUB_HUB_SHUTDOWN_DELAY_S="1")
    module_grid.wait_for_model(hub, "tiny:1b")
    assert "connection" not in get(hub, "/health/ready").headers
    process = _end(module_grid, hub)
    until(lambda: module_grid.status(hub, "/health/ready") == 503, 0.5, "it says that it isn't ready")
    assert get(hub, "/health/ready").json == {"status": "draining"}
    assert module_grid.status(hub, "/health/live") == 200
    for stream in (True, False):
        answer = post(hub, chat(tokens=3, stream=stream))
        assert (answer.status, answer.said) == (200, numbered(0, 3))
        assert answer.headers["connection"] == "close"
    assert process.is_running
    assert process.wait(4) == 0


def test_what_is_open_at_the_limit_ends_with_an_error_and_frees_its_slots(chain: Chain, module_grid: Grid) -> None:
    stream = Call(chain.hub, chat(tokens=1000, stream=True, double={"delay_ms": 20}))
    whole = Call(chain.hub, chat(tokens=1000, double={"delay_ms": 20}))
    stream.wait_for("t3 ")
    hanging = Call(chain.hub, chat(double={"hang": True}))
    _wait_open(chain, SLOTS)
    queued = Call(chain.hub, chat(stream=True))
    with module_grid.redis() as client:
        until(lambda: leftovers.jobs(client) == SLOTS + 1, 5, lambda: leftovers.told(client))
        began = time.monotonic()
        process = _end(module_grid, chain.hub)
        told = stream.finish()
        assert told.status == 200
        assert told.said == numbered(0, told.said.count(" "))
        assert told.error["code"] == "shutting_down"
        assert told.is_ended_once
        for call in (whole, hanging, queued):
            refused = call.finish()
            assert (refused.status, refused.error["code"]) == (503, "shutting_down")
        assert process.wait(3) == 0
        print(f"figure: with a limit of {LIMIT_S} s the process was gone after {time.monotonic() - began:.1f} s")
        _wait_open(chain, 0)
        assert chain.engine.state()["started"] == SLOTS, "the queued request is called off, not served to nobody"
        leftovers.until_at_rest(client, 1)
        name = process.log.read_text().split("hub=")[1].split()[0]
        mine = [key for key in leftovers.keys(client) if name in key]
        assert mine == [], "its hash, its doorbell and its replies are gone"


@pytest.mark.usefixtures("chain")
def test_a_hub_that_starts_knows_the_grid_before_anyone_reaches_it(module_grid: Grid) -> None:
    """What sends requests to whatever listens never hears that a model is unknown or the broker away."""
    for _ in range(3):
        hub = module_grid.hub(wait=False)
        answers: list[Answer] = []

        def has_answered(hub: str = hub, answers: list[Answer] = answers) -> bool:
            with suppress(ConnectionRefusedError):
                answers.append(post(hub, chat(tokens=3)))
            return bool(answers)

        until(has_answered, 10, module_grid.hubs[hub].tail)
        assert [(answer.status, answer.said) for answer in answers] == [(200, numbered(0, 3))]
        module_grid.hubs.pop(hub).stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_hub_stops_at_once_whatever_connections_are_open(
    chain: Chain, module_grid: Grid, number: signal.Signals
) -> None:
    kept = Call(chain.hub, chat(tokens=3))
    kept.wait_for("t2 ")
    unfinished = Call(chain.hub, b'{"model"', headers={"content-length": "1000"})
    silent = Call(chain.hub, path="/health/live", method="GET")
    assert silent.status == 200
    began = time.monotonic()
    assert _end(module_grid, chain.hub, number).wait(5) == 0
    took_s = time.monotonic() - began
    print(f"figure: an idle hub was gone after {took_s:.1f} s")
    assert took_s < LIMIT_S + 2
    for call in (kept, unfinished, silent):
        call.close()


def test_a_taken_port_is_told_in_one_line(chain: Chain, module_grid: Grid) -> None:
    env = {"GHUB_HUB_PORT": chain.hub.rpartition(":")[2], "GHUB_SIGNING_KEY": "test:0123456789abcdef"}
    second = Process("second hub", python("-m", "hub"), module_grid.folder / f"second-{free_port()}.log", env)
    assert second.wait(10) == 2
    assert second.tail().count("\n") == 1
    assert second.tail().startswith("ghub hub: cannot listen on 127.0.0.1:")
