"""A hub whose broker hangs, or is gone when it is told to stop."""

import signal
import time

import pytest

from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import Call, post
from tests.support.grid import Grid, chat
from tests.support.processes import until

QUICK = {"GHUB_HEARTBEAT_S": "0.3", "GHUB_HUB_RETRY_AFTER_S": "7"}
COMMAND_TIMEOUT_S = 5.0
BACK_WITHIN_S = 10.0


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
