"""Nobody waits for ever: each wait has a clock, and what it ends says so and frees its slot."""

import time
from collections.abc import Iterator

import psutil
import pytest

from tests.doubles.process import EngineProcess
from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import Call, get, post
from tests.support.grid import Chain, Grid, chat
from tests.support.processes import until

SLOTS = 2
FIRST_TOKEN_S = TOKEN_S = 0.6
ANSWER_S = 0.8
QUEUE_S = 3.0
MODEL_WAIT_S = 1.0
SEND_S = 1.0
ATTEMPTS = 2
CLOCKS = {
    "GHUB_PROVIDER_FIRST_TOKEN_TIMEOUT_S": str(FIRST_TOKEN_S),
    "GHUB_PROVIDER_TOKEN_TIMEOUT_S": str(TOKEN_S),
    "GHUB_PROVIDER_ANSWER_TIMEOUT_S": str(ANSWER_S),
    "GHUB_HUB_QUEUE_TIMEOUT_S": str(QUEUE_S),
    "GHUB_HUB_MODEL_WAIT_S": str(MODEL_WAIT_S),
    "GHUB_HUB_SEND_TIMEOUT_S": str(SEND_S),
    "GHUB_HUB_MAX_ATTEMPTS": str(ATTEMPTS),
    "GHUB_HUB_RETRY_AFTER_S": "7",
}


@pytest.fixture(scope="module")
def _chain(module_grid: Grid) -> Chain:
    return module_grid.chain(slots=8, provider_slots=SLOTS, **CLOCKS)


@pytest.fixture
def chain(_chain: Chain, module_grid: Grid) -> Iterator[Chain]:
    """A chain with short clocks; after each test its slots are free and its lanes empty."""
    _chain.engine.reset()
    yield _chain
    assert post(_chain.hub, chat(tokens=3)).said == numbered(0, 3)
    with module_grid.redis() as client:
        leftovers.until_at_rest(client, 5)


@pytest.fixture(scope="module")
def talkative_hub(module_grid: Grid, _chain: Chain) -> str:
    """A second hub, which comments almost at once."""
    hub = module_grid.hub(GHUB_HUB_FIRST_COMMENT_S="0.1", GHUB_HUB_COMMENT_INTERVAL_S="0.5", **CLOCKS)
    module_grid.wait_for_model(hub, "tiny:1b")
    return hub


def _wait_open(engine: EngineProcess, n: int, within_s: float = 5.0) -> None:
    until(lambda: engine.state()["open"] == n, within_s, engine.state)


@pytest.mark.parametrize("double", [{"hang": True}, {"prefill_ms": 60_000}], ids=["before-headers", "after-headers"])
def test_an_engine_that_never_speaks_is_left_after_the_first_token_clock(
    chain: Chain, double: dict[str, object]
) -> None:
    began = time.monotonic()
    answer = post(chain.hub, chat(stream=True, double=double))
    took_s = time.monotonic() - began
    assert (answer.status, answer.error["code"]) == (504, "first_token_timeout")
    assert answer.headers["x-ghub-attempt"] == str(ATTEMPTS)
    assert ATTEMPTS * FIRST_TOKEN_S <= took_s < ATTEMPTS * FIRST_TOKEN_S + 1.5
    _wait_open(chain.engine, 0, 1)
    assert chain.engine.state()["started"] == ATTEMPTS


def test_a_stream_that_has_heard_comments_hears_the_first_token_clock_as_an_event(
    chain: Chain, talkative_hub: str
) -> None:
    answer = post(talkative_hub, chat(stream=True, double={"hang": True}))
    assert answer.status == 200
    assert answer.text.startswith(": ")
    assert answer.error["code"] == "first_token_timeout"
    assert answer.is_ended_once
    _wait_open(chain.engine, 0, 1)


def test_a_stall_in_a_stream_ends_it_with_an_error_after_what_was_said(chain: Chain) -> None:
    began = time.monotonic()
    answer = post(chain.hub, chat(tokens=50, stream=True, double={"stall_after": 10}))
    assert time.monotonic() - began < TOKEN_S + 1.5
    assert answer.status == 200
    assert answer.said == numbered(0, 10)
    assert answer.error["code"] == "token_timeout"
    assert answer.is_ended_once
    _wait_open(chain.engine, 0, 1)
    assert chain.engine.state()["started"] == 1, "what the client has heard can't be said again"


def test_a_slow_but_steady_stream_outlives_every_clock(chain: Chain) -> None:
    answer = post(chain.hub, chat(tokens=8, stream=True, double={"delay_ms": 300}))
    assert answer.said == numbered(0, 8)
    assert answer.is_ended_once


def test_a_whole_answer_that_never_comes_is_left_after_the_answer_clock(chain: Chain) -> None:
    began = time.monotonic()
    answer = post(chain.hub, chat(double={"hang": True}))
    assert (answer.status, answer.error["code"]) == (504, "answer_timeout")
    assert time.monotonic() - began < ATTEMPTS * ANSWER_S + 1.5
    _wait_open(chain.engine, 0, 1)
    assert chain.engine.state()["started"] == ATTEMPTS


def test_a_request_that_gets_no_slot_in_time_is_refused(chain: Chain, talkative_hub: str, module_grid: Grid) -> None:
    running = [Call(chain.hub, chat(tokens=500, stream=True, double={"delay_ms": 50})) for _ in range(SLOTS)]
    for call in running:
        call.wait_for("t0 ")
    streamed = Call(talkative_hub, chat(stream=True))
    streamed.wait_for(": queued, 0 ahead\n")
    began = time.monotonic()
    whole = post(chain.hub, chat())
    took_s = time.monotonic() - began
    assert (whole.status, whole.error["code"]) == (503, "queue_timeout")
    assert whole.headers["retry-after"] == "7"
    assert QUEUE_S <= took_s < QUEUE_S + 1.5
    told = streamed.finish()
    assert told.error["code"] == "queue_timeout"
    assert told.is_ended_once
    with module_grid.redis() as client:
        until(lambda: leftovers.jobs(client) == SLOTS, 3, lambda: leftovers.told(client))
        assert leftovers.waiting(client) == 0
    assert chain.engine.state()["started"] == SLOTS
    for call in running:
        call.drop()
    _wait_open(chain.engine, 0, 1)


def test_an_unknown_model_is_refused_at_once(chain: Chain) -> None:
    for stream in (True, False):
        began = time.monotonic()
        answer = post(chain.hub, chat(model="never:seen", stream=stream))
        assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "model_not_found", "model")
        assert time.monotonic() - began < MODEL_WAIT_S / 2
    assert get(chain.hub, "/v1/models/never:seen").error["code"] == "model_not_found"


def test_a_model_whose_node_is_gone_is_waited_for_and_then_refused(chain: Chain, module_grid: Grid) -> None:
    engine = module_grid.engine("gone:1b")
    node = module_grid.provider(engine.url, "leaving")
    assert post(chain.hub, chat(model="gone:1b", tokens=3)).said == numbered(0, 3)
    assert module_grid.providers[node].stop() == 0
    began = time.monotonic()
    answer = post(chain.hub, chat(model="gone:1b"))
    assert (answer.status, answer.error["code"]) == (503, "model_unavailable")
    assert answer.headers["retry-after"] == "7"
    assert MODEL_WAIT_S <= time.monotonic() - began < MODEL_WAIT_S + 3


def test_a_request_for_a_model_whose_node_comes_back_in_time_is_served(module_grid: Grid) -> None:
    patient_hub = module_grid.hub(GHUB_HUB_MODEL_WAIT_S="20")
    engine = module_grid.engine("back:1b")
    node = module_grid.provider(engine.url, "returning")
    module_grid.wait_for_model(patient_hub, "back:1b")
    assert module_grid.providers[node].stop() == 0
    with Call(patient_hub, chat(model="back:1b", tokens=3, stream=True)) as call:
        module_grid.provider(engine.url, "returning", wait=False)
        assert call.finish().said == numbered(0, 3)


def _connections(process: psutil.Process, port: int) -> list[str]:
    return [one.status for one in process.net_connections("tcp") if one.raddr and one.raddr.port == port]


def test_a_client_that_reads_nothing_is_cut_off_and_its_engine_freed(chain: Chain, module_grid: Grid) -> None:
    hub = psutil.Process(module_grid.hubs[chain.hub].pid)
    before = hub.memory_info().rss
    body = chat(tokens=100_000, stream=True, double={"event_bytes": 16_384})
    with Call(chain.hub, body, receive_buffer_bytes=4096) as call:
        _wait_open(chain.engine, 1)
        assert post(chain.hub, chat(tokens=5)).said == numbered(0, 5), "the others don't wait for the slow one"
        _wait_open(chain.engine, 0, SEND_S + 4)
        grown_mib = (hub.memory_info().rss - before) / 2**20
        print(f"a client that reads nothing: hub +{grown_mib:.1f} MiB")
        assert grown_mib < 30
        port = call.socket.getsockname()[1]
        until(lambda: not _connections(hub, port), SEND_S + 4, lambda: f"the connection is {_connections(hub, port)}")


def test_a_client_that_reads_slowly_gets_everything_in_order(chain: Chain) -> None:
    """At 1 MB/s: what the system would hold for it by itself takes longer than a client may read nothing."""
    body = chat(tokens=250, stream=True, double={"event_bytes": 16_384})
    with Call(chain.hub, body, receive_buffer_bytes=4096) as call:
        began = time.monotonic()
        while call.read_some():
            time.sleep(0.004)  # slowness is the subject here
        answer = call.finish()
    assert time.monotonic() - began > 2 * SEND_S
    assert answer.said == numbered(0, 250)
    assert answer.is_ended_once
