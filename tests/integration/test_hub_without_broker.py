"""A hub whose broker hangs, dies and comes back, or is gone when it is told to stop."""

import signal
import time

import pytest

from tests.doubles.reading import numbered
from tests.integration.registering import until_later
from tests.support import leftovers
from tests.support.call import Call, get, post
from tests.support.grid import Grid, chat
from tests.support.processes import until

QUICK = {"GHUB_HEARTBEAT_S": "0.3", "GHUB_HUB_RETRY_AFTER_S": "7"}
COMMENTS = {"GHUB_HUB_FIRST_COMMENT_S": "0.3", "GHUB_HUB_COMMENT_INTERVAL_S": "0.5"}
COMMAND_TIMEOUT_S = 5.0
BACK_WITHIN_S = 10.0
NOTICED_WITHIN_S = 5.0
"""Probes hear of a broker that is away within this."""
READY_WITHIN_S = 2.0
STALL_S = 2.0
"""Longer than a lease at this pace (0.9 s), shorter than a command may take."""
TOKENS = 300


def _refused(hub: str, within_s: float) -> None:
    """A request is refused for want of a broker, and soon."""
    for stream in (True, False):
        began = time.monotonic()
        answer = post(hub, chat(stream=stream))
        took_s = time.monotonic() - began
        assert (answer.status, answer.error["code"]) == (503, "broker_unavailable")
        assert answer.headers["retry-after"] == "7"
        assert took_s < within_s
        print(f"figure: refused after {took_s:.2f} s")


@pytest.mark.slow
def test_a_broker_that_hangs_is_waited_for_no_longer_than_a_command_may_take(mortal_grid: Grid) -> None:
    hub, _, engine = mortal_grid.chain(**QUICK)
    mortal_grid.broker.process.signal(signal.SIGSTOP)
    try:
        _refused(hub, COMMAND_TIMEOUT_S + 1)
    finally:
        mortal_grid.broker.process.signal(signal.SIGCONT)
    until(lambda: mortal_grid.status(hub, "/health") == 200, BACK_WITHIN_S, mortal_grid.hubs[hub].tail)
    assert post(hub, chat(tokens=5)).said == numbered(0, 5)
    with mortal_grid.redis() as client:  # the jobs that the broker found in its sockets when it went on
        leftovers.until_at_rest(client, BACK_WITHIN_S)
    assert engine.state()["open"] == 0


def _stream(hub: str) -> Call:
    """A stream under way, 6 s long."""
    call = Call(hub, chat(tokens=TOKENS, stream=True, double={"delay_ms": 20}), within_s=40)
    call.wait_for("t3 ")
    return call


def _probes_say_so(grid: Grid, hub: str) -> None:
    until(lambda: grid.status(hub, "/health/ready") == 503, NOTICED_WITHIN_S, grid.hubs[hub].tail)
    assert get(hub, "/health/ready").json == {"status": "broker_unavailable"}
    assert get(hub, "/health").json["broker"] == "unreachable"
    assert grid.status(hub, "/health/live") == 200


def _goes_on(grid: Grid, hub: str, call: Call) -> None:
    """The broker is there again: the hub is ready soon, the stream ends with its own tokens, and others are served."""
    took_s = until(lambda: grid.status(hub, "/health/ready") == 200, BACK_WITHIN_S, grid.hubs[hub].tail)
    print(f"figure: ready {took_s:.2f} s after the broker")
    assert took_s < READY_WITHIN_S
    answer = call.finish()
    assert (answer.said, answer.is_ended_once) == (numbered(0, TOKENS), True)
    assert post(hub, chat(tokens=5)).said == numbered(0, 5)


@pytest.mark.slow
def test_a_broker_that_dies_and_comes_back_empty_is_bridged(mortal_grid: Grid) -> None:
    hub, _, _ = mortal_grid.chain(**QUICK, **COMMENTS)
    call = _stream(hub)
    mortal_grid.broker.kill()
    _refused(hub, 1)  # at once, before the hub's picture is old
    _probes_say_so(mortal_grid, hub)
    _refused(hub, 1)
    call.wait_for(": running on ")
    mortal_grid.broker.start()
    _goes_on(mortal_grid, hub, call)


@pytest.mark.slow
def test_streams_outlive_a_broker_that_hangs(mortal_grid: Grid) -> None:
    hub, _, _ = mortal_grid.chain(**QUICK, **COMMENTS)
    call = _stream(hub)
    mortal_grid.broker.process.signal(signal.SIGSTOP)
    try:
        _probes_say_so(mortal_grid, hub)
        call.wait_for(": running on ")
        until(lambda: _is_refused_at_once(hub), 2 * COMMAND_TIMEOUT_S, "requests are refused at once")
    finally:
        mortal_grid.broker.process.signal(signal.SIGCONT)
    _goes_on(mortal_grid, hub, call)


def test_a_stall_that_outlasts_the_leases_and_cuts_no_connection_costs_no_stream(mortal_grid: Grid) -> None:
    """When the broker goes on, what nodes wrote in vain is there a moment after the hub has looked for it."""
    hub, _, _ = mortal_grid.chain(**QUICK, **COMMENTS)
    call = _stream(hub)
    for _ in range(2):
        mortal_grid.broker.process.signal(signal.SIGSTOP)
        until_later(STALL_S)
        mortal_grid.broker.process.signal(signal.SIGCONT)
        until_later(1)
    _goes_on(mortal_grid, hub, call)


def test_a_hub_that_starts_while_the_broker_hangs_says_so_after_a_while(mortal_grid: Grid) -> None:
    mortal_grid.broker.process.signal(signal.SIGSTOP)
    try:
        hub = mortal_grid.hub(wait=False, **QUICK)
        until(lambda: mortal_grid.status(hub, "/health/live") == 200, 10, mortal_grid.hubs[hub].tail)
        assert get(hub, "/health/ready").json == {"status": "broker_unavailable"}
        assert post(hub, chat()).error["code"] == "broker_unavailable"
    finally:
        mortal_grid.broker.process.signal(signal.SIGCONT)
    until(lambda: mortal_grid.status(hub, "/health/ready") == 200, BACK_WITHIN_S, mortal_grid.hubs[hub].tail)


def _is_refused_at_once(hub: str) -> bool:
    began = time.monotonic()
    answer = post(hub, chat())
    return answer.status == 503 and time.monotonic() - began < 1


def test_a_hub_told_to_stop_without_its_broker_ends_its_streams_and_itself(mortal_grid: Grid) -> None:
    hub, _, _ = mortal_grid.chain(GHUB_HUB_SHUTDOWN_TIMEOUT_S="0.4", **QUICK)
    call = Call(hub, chat(tokens=2000, stream=True, double={"delay_ms": 20}))
    call.wait_for("t3 ")
    mortal_grid.broker.kill()
    began = time.monotonic()
    mortal_grid.hubs[hub].signal(signal.SIGTERM)
    answer = call.finish()
    assert answer.error["code"] == "shutting_down"
    assert answer.said == numbered(0, answer.said.count(" "))
    assert answer.is_ended_once
    assert mortal_grid.hubs[hub].wait(8) == 0
    print(f"figure: gone {time.monotonic() - began:.1f} s after the signal")
