"""Nobody's answer: whatever a client was waiting for when it left, the engine stops within a second."""

import random
import threading
from collections.abc import Iterator

import pytest

from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import Call, post
from tests.support.grid import Chain, Grid, chat
from tests.support.processes import until

WITHIN_S = 1.0
SLOTS = 2


@pytest.fixture(scope="module")
def _chain(module_grid: Grid) -> Chain:
    return module_grid.chain(slots=8, provider_slots=SLOTS)


@pytest.fixture
def chain(_chain: Chain, module_grid: Grid) -> Iterator[Chain]:
    """A chain with two slots, at rest before each test, and after it."""
    _chain.engine.reset()
    yield _chain
    with module_grid.redis() as client:
        leftovers.until_at_rest(client, 5)
    assert post(_chain.hub, chat(tokens=3)).said == numbered(0, 3), "the slot is not free again"


def _wait_open(chain: Chain, n: int, within_s: float = 5.0) -> float:
    return until(lambda: chain.engine.state()["open"] == n, within_s, chain.engine.state)


def _leave(call: Call, how: str) -> None:
    call.drop() if how == "reset" else call.close()


@pytest.mark.parametrize("how", ["reset", "close"])
def test_leaving_a_stream_of_2000_tokens_stops_the_engine(chain: Chain, how: str) -> None:
    call = Call(chain.hub, chat(tokens=2000, stream=True, double={"delay_ms": 5}))
    assert call.wait_for("t20 ")
    _wait_open(chain, 1)
    _leave(call, how)
    took_s = _wait_open(chain, 0, WITHIN_S)
    print(f"stream: engine free after {took_s * 1000:.0f} ms")
    assert chain.engine.state()["cancelled"] == 1


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize(
    ("stage", "stream", "double"),
    [
        ("a whole answer", False, {"delay_ms": 100}),
        ("the prefill of a stream", True, {"prefill_ms": 60_000}),
        ("the prefill of a whole answer", False, {"prefill_ms": 60_000}),
        ("a hang before the headers", True, {"hang": True}),
        ("a stall in a stream", True, {"stall_after": 3}),
    ],
)
def test_leaving_during(chain: Chain, *, stage: str, stream: bool, double: dict[str, object], how: str) -> None:
    call = Call(chain.hub, chat(tokens=1000, stream=stream, double=double))
    _wait_open(chain, 1)
    if "stall_after" in double:
        call.wait_for("t2 ")
    _leave(call, how)
    took_s = _wait_open(chain, 0, WITHIN_S)
    print(f"{stage}: engine free after {took_s * 1000:.0f} ms")
    assert chain.engine.state()["cancelled"] == 1


def test_leaving_the_queue_takes_the_job_off_its_lane(chain: Chain, module_grid: Grid) -> None:
    with module_grid.redis() as client:
        running = [Call(chain.hub, chat(stream=True, double={"hang": True})) for _ in range(SLOTS)]
        _wait_open(chain, SLOTS)
        until(lambda: leftovers.pending(client) == SLOTS and leftovers.indexed(client) == 0, 5, "both claimed")
        before = set(leftovers.replies(client))
        with Call(chain.hub, chat(stream=True)) as queued:
            until(lambda: leftovers.jobs(client) == SLOTS + 1, 5, "the third is in the lane")
            assert leftovers.waiting(client) == 1
            (reply,) = set(leftovers.replies(client)) - before
            request = reply.rpartition(":")[2]
            queued.drop()
        took_s = until(lambda: leftovers.jobs(client) == SLOTS, WITHIN_S, lambda: leftovers.told(client))
        print(f"queued: job gone after {took_s * 1000:.0f} ms")
        until(lambda: reply not in leftovers.replies(client), WITHIN_S, "the reply is gone")
        until(lambda: leftovers.indexed(client) == 0, WITHIN_S, "its place in the queue is gone")
        until(lambda: client.hget(f"ghub:request:{request}", "status") == "cancelled", WITHIN_S, "its hash says so")
        for call in running:
            call.drop()
        _wait_open(chain, 0, WITHIN_S)
    assert chain.engine.state()["started"] == SLOTS, "the queued request must never reach the engine"


def test_leaving_at_any_moment_between_admission_and_first_byte_leaves_no_generation_behind(chain: Chain) -> None:
    """The claim is on its way to the hub while the hub calls the request off: a window of a millisecond."""
    moments = random.Random(7)
    for n in range(100):
        call = Call(chain.hub, chat(tokens=1000, stream=n % 2 == 0, double={"hang": True}))
        threading.Event().wait(moments.uniform(0, 0.02))  # the moment is the subject here, nothing waits for it
        call.drop()
    _wait_open(chain, 0, WITHIN_S + 1)


def test_a_cancel_reaches_only_its_own_request(chain: Chain) -> None:
    leaving = Call(chain.hub, chat(tokens=1000, stream=True, double={"delay_ms": 5}))
    staying = Call(chain.hub, chat(tokens=100, stream=True, double={"delay_ms": 5}))
    leaving.wait_for("t5 ")
    staying.wait_for("t5 ")
    leaving.drop()
    assert staying.finish().said == numbered(0, 100)
