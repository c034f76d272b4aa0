"""What becomes of requests whose hub was killed, of answers that take very long, and of prompts that kill engines."""

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
import redis

from tests.doubles.process import EngineProcess
from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.brokers import BrokerProcess
from tests.support.call import Call, post
from tests.support.grid import Grid, chat
from tests.support.operator import ADMIN, told
from tests.support.processes import Process, until

FREE_WITHIN_S = 5.0
"""From the end of a hub to that of its requests' generations, with the usual heartbeats."""
SLOTS = 2
SLOW = {"delay_ms": 20}
FOREVER = {"prefill_ms": 600_000}
ENDLESS = 100_000
QUICK = {"GHUB_HEARTBEAT_S": "0.3"}
ATTEMPTS = 3
AWAY_S = 4.0
"""Longer than a hub's lease with the usual heartbeats."""


def _open_sets(client: redis.Redis) -> list[str]:
    return [key for key in leftovers.keys(client) if key.startswith("ghub:{open}:")]


def _wait_open(engine: EngineProcess, n: int, within_s: float = 5.0) -> float:
    return until(lambda: engine.state()["open"] == n, within_s, engine.state)


def _nothing_is_left(client: redis.Redis) -> None:
    """No job, no reply, and nothing that a hub looks after."""
    leftovers.until_at_rest(client, 3)
    until(lambda: not (_open_sets(client) or leftovers.replies(client)), 5, lambda: leftovers.told(client))


@pytest.fixture(scope="module")
def _engine(module_grid: Grid) -> EngineProcess:
    engine = module_grid.engine("early:1b", slots=8)
    module_grid.provider(engine.url, "early", GHUB_PROVIDER_SLOTS=str(SLOTS))
    return engine


@pytest.fixture
def engine(_engine: EngineProcess, module_grid: Grid) -> Iterator[EngineProcess]:
    """The engine of the one node of a model; after each test it is free, and nothing is left in the broker."""
    _engine.reset()
    yield _engine
    for process in module_grid.hubs.values():
        process.stop()
    with module_grid.redis() as client:
        _nothing_is_left(client)


def _hub(grid: Grid) -> tuple[str, Process]:
    url = grid.hub(GHUB_HUB_REPLY_LINGER_S="0")
    grid.wait_for_model(url, "early:1b")
    return url, grid.hubs[url]


class TestAKilledHub:
    @pytest.mark.parametrize("is_replaced", [False, True], ids=["beside another one", "replaced by a new one"])
    def test_frees_its_nodes_soon_and_leaves_nothing(
        self, module_grid: Grid, engine: EngineProcess, *, is_replaced: bool
    ) -> None:
        """One request streams, one has said nothing yet, two wait; nobody can hear any of them any more."""
        hub, process = _hub(module_grid)
        if not is_replaced:
            _hub(module_grid)
        with ExitStack() as calls, module_grid.redis() as client:
            streams = calls.enter_context(Call(hub, chat(model="early:1b", tokens=ENDLESS, stream=True, double=SLOW)))
            streams.wait_for("t3 ")
            calls.enter_context(Call(hub, chat(model="early:1b", double=FOREVER)))
            _wait_open(engine, SLOTS)
            for stream in (True, False):
                calls.enter_context(Call(hub, chat(model="early:1b", stream=stream)))
            until(lambda: leftovers.jobs(client) == SLOTS + 2, 5, lambda: leftovers.told(client))
            process.kill()
            if is_replaced:  # that it takes a while to start is not the reaper's doing
                _hub(module_grid)
            took_s = _wait_open(engine, 0, FREE_WITHIN_S)
            print(f"figure: node free {took_s:.1f} s after its hub was killed or replaced")
            _nothing_is_left(client)
            assert engine.state()["started"] == SLOTS, "what waited must never reach the engine"
            lost = [client.hgetall(key) for key in client.scan_iter("ghub:request:*")]
            assert {one["error"] for one in lost if one["status"] == "failed"} == {"hub_lost"}

    def test_does_not_hurt_the_requests_of_the_others(self, module_grid: Grid, engine: EngineProcess) -> None:
        dying, process = _hub(module_grid)
        staying, _ = _hub(module_grid)
        with Call(dying, chat(model="early:1b", double=FOREVER)):
            _wait_open(engine, 1)
            with Call(staying, chat(model="early:1b", tokens=250, stream=True, double=SLOW)) as call:
                call.wait_for("t3 ")
                process.kill()
                answer = call.finish()
        assert (answer.said, answer.is_ended_once) == (numbered(0, 250), True)
        assert engine.state()["started"] == 2


def test_a_hub_that_stops_in_order_leaves_nothing_of_itself(module_grid: Grid) -> None:
    engine = module_grid.engine("last:1b")
    module_grid.provider(engine.url, "last", **QUICK)
    hub = module_grid.hub(**QUICK)
    module_grid.wait_for_model(hub, "last:1b")
    (me,) = told_hubs(module_grid)
    assert post(hub, chat(model="last:1b", tokens=3)).said == numbered(0, 3)
    assert module_grid.hubs[hub].stop() == 0
    with module_grid.redis() as client:
        assert not [key for key in leftovers.keys(client) if me in key and not key.startswith("ghub:reply:")]
        assert me not in client.zrange("ghub:hubs", 0, -1)


def told_hubs(grid: Grid) -> list[str]:
    """The hubs that are in the registry now."""
    with grid.redis() as client:
        return [key.removeprefix("ghub:hub:") for key in leftovers.keys(client) if key.startswith("ghub:hub:")]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_hub_that_was_only_stopped_goes_on_with_what_others_took_for_lost(mortal_grid: Grid, *, stream: bool) -> None:
    """Its client notices no more than a pause."""
    engine = mortal_grid.engine(kind="llamacpp")
    mortal_grid.provider(engine.url, **QUICK)
    hub, _ = mortal_grid.hub(**QUICK), mortal_grid.hub(**QUICK)
    mortal_grid.wait_for_model(hub, "tiny:1b")
    process = mortal_grid.hubs[hub]
    with Call(hub, chat(tokens=200, stream=stream, double=SLOW)) as call, mortal_grid.redis() as client:
        _wait_open(engine, 1)
        if stream:
            call.wait_for("t3 ")
        process.signal(signal.SIGSTOP)
        try:
            until(lambda: not leftovers.replies(client), 10, lambda: leftovers.told(client))
            _wait_open(engine, 0)
        finally:
            process.signal(signal.SIGCONT)
        answer = call.finish()
        assert (answer.status, answer.said) == (200, numbered(0, 200))
        until(lambda: not _open_sets(client), 5, lambda: leftovers.told(client))


def test_hubs_do_not_take_each_other_for_dead_because_the_broker_was_away(tmp_path: Path) -> None:
    """It comes back with its file: their open requests are in it, and the leases of all of them have run out."""
    broker = BrokerProcess("valkey", tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    grid = Grid(broker, tmp_path)
    try:
        engine = grid.engine(kind="llamacpp")
        grid.provider(engine.url)
        hubs = [grid.hub() for _ in range(3)]
        grid.wait_for_model(hubs[0], "tiny:1b")
        with ExitStack() as calls:
            streams = [calls.enter_context(Call(hub, chat(tokens=400, stream=True, double=SLOW))) for hub in hubs]
            for stream in streams:
                stream.wait_for("t3 ")
            broker.kill()
            time.sleep(AWAY_S)
            broker.start()
            assert [stream.finish().said for stream in streams] == [numbered(0, 400)] * 3
        assert engine.state()["started"] == 3, "each went on where it was"
        with grid.redis() as client:
            assert not [one for one in client.scan_iter("ghub:request:*") if client.hget(one, "error")]
            until(lambda: not _open_sets(client), 5, lambda: leftovers.told(client))
    finally:
        grid.close()
        broker.kill()


@pytest.mark.slow
def test_an_answer_that_outlasts_every_timeout_is_generated_once(mortal_grid: Grid) -> None:
    """Its node lives all the time; several hubs look for what they might have to run again."""
    short = {"GHUB_HUB_REPLY_TTL_S": "5", "GHUB_HUB_REQUEST_TTL_S": "10", "GHUB_HUB_QUEUE_TIMEOUT_S": "2", **QUICK}
    engine = mortal_grid.engine(slots=4)
    mortal_grid.provider(engine.url, **QUICK)
    hubs = [mortal_grid.hub(**short) for _ in range(3)]
    mortal_grid.wait_for_model(hubs[0], "tiny:1b")
    began = time.monotonic()
    slow = {"delay_ms": 220}
    streams, whole = [Call(hubs[0], chat(tokens=100, stream=stream, double=slow)) for stream in (True, False)]
    answers = [streams.finish(), whole.finish()]
    assert time.monotonic() - began > 20
    assert [answer.said for answer in answers] == [numbered(0, 100)] * 2
    assert (engine.state()["started"], engine.state()["finished"]) == (2, 2)


class Victim(EngineProcess):
    """An engine that somebody starts again as often as it dies."""

    def __init__(self) -> None:
        super().__init__(kind="llamacpp", slots=4)
        self.deaths = 0
        self._is_over = threading.Event()
        self._keeper = threading.Thread(target=self._keep_alive)

    def __enter__(self) -> Self:
        super().__enter__()
        self._keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._keeper.join(20)
        super().__exit__(kind, error, trace)

    def _keep_alive(self) -> None:
        while not self._is_over.is_set():
            try:
                self.wait_exit(0.2)
            except subprocess.TimeoutExpired:
                continue
            self.deaths += 1
            self.start()


@pytest.mark.parametrize("tokens_before", [0, 5], ids=["before the first token", "in the middle"])
def test_a_prompt_that_kills_its_engine_each_time_ends_in_the_dead_letters_and_harms_nobody_else(
    mortal_grid: Grid, tokens_before: int
) -> None:
    other = mortal_grid.engine("other:1b", slots=4)
    mortal_grid.provider(other.url, "other", **QUICK)
    hub = mortal_grid.hub(GHUB_HUB_MAX_ATTEMPTS=str(ATTEMPTS), **QUICK, **ADMIN)
    with Victim() as victim:
        mortal_grid.provider(victim.url, "victim", **QUICK)
        for model in ("tiny:1b", "other:1b"):
            mortal_grid.wait_for_model(hub, model)
        with Call(hub, chat(model="other:1b", tokens=200, stream=True, double=SLOW)) as neighbour:
            neighbour.wait_for("t3 ")
            poison = chat("poison", tokens=50, stream=True, double={"exit_after": tokens_before})
            answer = post(hub, poison, within_s=40)
            assert answer.error["message"]
            assert neighbour.finish().said == numbered(0, 200)
        (letter,) = told(hub, "GET", "/api/dead")["dead"]
        assert (letter["code"], letter["is_retryable"]) == (answer.error["code"], True)
        assert letter["reason"]
        until(lambda: post(hub, chat(tokens=3), within_s=20).status == 200, 20, "the engine is back and serves")
        assert ATTEMPTS <= victim.deaths <= 2 * ATTEMPTS, "one that had said something is half excused"
        with mortal_grid.redis() as client:
            leftovers.until_at_rest(client, 3)
