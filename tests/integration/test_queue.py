"""The queue of a model: bounded, in order, told to those who wait, and never emptied faster than slots come free."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.doubles.process import EngineProcess
from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import Call, get, post
from tests.support.grid import Chain, Grid, chat
from tests.support.processes import until

SLOTS = 2
MAX_QUEUE = 5
SETTINGS = {
    "GHUB_HUB_MAX_QUEUE": str(MAX_QUEUE),
    "GHUB_HUB_MAX_ATTEMPTS": "2",
    "GHUB_HUB_RETRY_AFTER_S": "7",
    "GHUB_HUB_FIRST_COMMENT_S": "0.2",
    "GHUB_HUB_COMMENT_INTERVAL_S": "0.5",
}
HOLD: dict[str, object] = {"hang": True}
"""What keeps a slot taken until the client leaves."""


@pytest.fixture(scope="module")
def _chain(module_grid: Grid) -> Chain:
    return module_grid.chain(slots=16, provider_slots=SLOTS, **SETTINGS)


@pytest.fixture(scope="module")
def patient_hub(module_grid: Grid, _chain: Chain) -> str:
    """A second hub, with room for many, which says nothing before it must."""
    hub = module_grid.hub(GHUB_HUB_MAX_ATTEMPTS="2", GHUB_HUB_FIRST_COMMENT_S="20")
    module_grid.wait_for_model(hub, "tiny:1b")
    return hub


@pytest.fixture
def chain(_chain: Chain, module_grid: Grid) -> Iterator[Chain]:
    """A chain with two slots and room for five in its queue; after each test all of it is free."""
    _chain.engine.reset()
    yield _chain
    for call in [*Call.open]:
        call.drop()
    with module_grid.redis() as client:
        leftovers.until_at_rest(client, 5)
    until(lambda: _chain.engine.state()["open"] == 0, 5, _chain.engine.state)


def _taken(chain: Chain, slots: int = SLOTS) -> list[Call]:
    """Clients that hold these slots."""
    holders = [Call(chain.hub, chat(double=HOLD)) for _ in range(slots)]
    until(lambda: chain.engine.state()["open"] == slots, 5, chain.engine.state)
    return holders


def _queued(hub: str, count: int, grid: Grid) -> list[Call]:
    """Streams that wait, the first in front."""
    queue = []
    with grid.redis() as client:
        before = leftovers.waiting(client)
        for n in range(count):
            queue.append(Call(hub, chat(f"queued {n}", tokens=3, stream=True)))
            until(lambda n=n: leftovers.waiting(client) == before + n + 1, 5, lambda: leftovers.told(client))
    return queue


def _order(engine: EngineProcess, prompts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The names of these bodies in the order in which the engine saw them."""
    by_digest = {hashlib.sha256(json.dumps(body).encode()).hexdigest(): name for name, body in prompts.items()}
    return [by_digest[one["body_sha256"]] for one in engine.state()["requests"] if one["body_sha256"] in by_digest]


@pytest.mark.parametrize("fields", [{}, {"stream": True}], ids=["whole", "stream"])
def test_a_full_queue_refuses_with_429_and_says_when_to_come_back(
    chain: Chain, module_grid: Grid, fields: dict[str, Any]
) -> None:
    _taken(chain)
    _queued(chain.hub, MAX_QUEUE, module_grid)
    with module_grid.redis() as client:
        before = (leftovers.jobs(client), leftovers.entries_added(client), set(leftovers.keys(client)))
        refused = post(chain.hub, chat(**fields))
        assert (refused.status, refused.error["code"], refused.error["type"]) == (429, "queue_full", "rate_limit_error")
        assert refused.headers["retry-after"] == "7"
        assert refused.headers["content-type"] == "application/json"
        assert refused.headers["x-request-id"]
        after = (leftovers.jobs(client), leftovers.entries_added(client), set(leftovers.keys(client)))
        assert after == before, "what was refused must leave nothing"


def test_a_place_that_comes_free_is_given_again(chain: Chain, module_grid: Grid) -> None:
    running = _taken(chain)
    queue = _queued(chain.hub, MAX_QUEUE, module_grid)
    assert post(chain.hub, chat()).status == 429
    queue[2].drop()
    with module_grid.redis() as client:
        until(lambda: leftovers.waiting(client) == MAX_QUEUE - 1, 5, lambda: leftovers.told(client))
    late = Call(chain.hub, chat(tokens=3, stream=True))
    late.wait_for(": queued, 4 ahead")
    running[0].drop()
    for call in [*queue[:2], *queue[3:], late]:
        assert call.finish().said == numbered(0, 3)


def test_a_burst_at_two_hubs_fills_the_last_places_and_not_one_more(chain: Chain, module_grid: Grid) -> None:
    other = module_grid.hub(**SETTINGS)
    module_grid.wait_for_model(other, "tiny:1b")
    running = _taken(chain)
    burst = 24
    with ThreadPoolExecutor(burst) as pool:
        calls = [pool.submit(post, (chain.hub, other)[n % 2], chat(tokens=3)) for n in range(burst)]
        until(
            lambda: sum(call.done() for call in calls) == burst - MAX_QUEUE,
            10,
            lambda: [call.result().text if call.done() else None for call in calls],
        )
        for call in running:
            call.drop()
        answers = [call.result() for call in calls]
    assert Counter(answer.status for answer in answers) == {200: MAX_QUEUE, 429: burst - MAX_QUEUE}
    assert {answer.said for answer in answers if answer.status == 200} == {numbered(0, 3)}


def test_a_full_queue_of_one_model_is_no_business_of_another(chain: Chain, module_grid: Grid) -> None:
    engine = module_grid.engine("other:1b")
    module_grid.provider(engine.url, "other-node")
    module_grid.wait_for_model(chain.hub, "other:1b")
    _taken(chain)
    _queued(chain.hub, MAX_QUEUE, module_grid)
    assert post(chain.hub, chat()).status == 429
    assert post(chain.hub, chat(model="other:1b", tokens=3)).said == numbered(0, 3)


def test_those_who_wait_hear_how_many_are_ahead_and_that_they_move_up(chain: Chain, module_grid: Grid) -> None:
    running = _taken(chain)
    first, second, third = _queued(chain.hub, 3, module_grid)
    for ahead, call in enumerate((first, second, third)):
        assert call.wait_for(" ahead").startswith(f": queued, {ahead} ahead"), "the first line has the true place"
        assert call.status == 200
    first.drop()
    second.wait_for(": queued, 0 ahead")
    third.wait_for(": queued, 1 ahead")
    running[0].drop()
    for call in (second, third):
        told = call.finish()
        assert told.said == numbered(0, 3)
        assert told.is_ended_once
        places = [int(line.split()[2]) for line in told.text.splitlines() if line.startswith(": queued")]
        assert places == sorted(places, reverse=True), "nobody falls back"


def test_a_waiting_stream_sends_its_head_with_the_first_comment(chain: Chain, module_grid: Grid) -> None:
    _taken(chain)
    (call,) = _queued(chain.hub, 1, module_grid)
    call.wait_for(": queued, 0 ahead")
    headers = {name.lower(): value for name, value in call._response.getheaders()}
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-cache"
    assert headers["x-request-id"]
    assert "x-ghub-node" not in headers, "nobody knows yet where it will run"


def test_a_request_in_a_long_prefill_hears_who_runs_it(chain: Chain) -> None:
    told = post(chain.hub, chat(tokens=3, stream=True, double={"prefill_ms": 1000}))
    assert told.text.startswith(f": running on {chain.node}\n\n")
    assert told.said == numbered(0, 3)
    assert told.headers["x-ghub-node"] == chain.node


def test_comments_between_slow_tokens_leave_the_text_intact(chain: Chain) -> None:
    told = post(chain.hub, chat(tokens=4, stream=True, double={"delay_ms": 700, "split_bytes": 50}))
    assert told.text.count(f": running on {chain.node}\n\n") >= 2
    assert told.said == numbered(0, 4)
    assert told.is_ended_once


@pytest.mark.parametrize(("refusal", "status"), [(400, 400), (500, 502)])
def test_a_stream_that_fails_before_its_first_comment_has_a_true_status(
    chain: Chain, patient_hub: str, module_grid: Grid, refusal: int, status: int
) -> None:
    running = _taken(chain)
    with module_grid.redis() as client:
        waiting = Call(patient_hub, chat(stream=True, double={"status": refusal}))
        until(lambda: leftovers.waiting(client) == 1, 5, lambda: leftovers.told(client))
    running[0].drop()
    failed = waiting.finish()
    assert failed.status == status
    assert failed.headers["content-type"] == "application/json"
    assert f"scripted failure {refusal}" in failed.error["message"]


def test_a_stream_that_fails_after_its_first_comment_says_so_in_an_event(chain: Chain) -> None:
    running = _taken(chain)
    waiting = Call(chain.hub, chat(stream=True, double={"status": 400}))
    waiting.wait_for(": queued, 0 ahead")
    running[0].drop()
    failed = waiting.finish()
    assert failed.status == 200
    assert "scripted failure 400" in failed.error["message"]
    assert failed.is_ended_once


def test_jobs_run_in_the_order_in_which_they_came(chain: Chain, patient_hub: str, module_grid: Grid) -> None:
    running = _taken(chain)
    bodies = {
        str(n): chat(f"number {n}", tokens=3, stream=n % 2 == 0, stream_options={"include_usage": n % 2 == 0})
        for n in range(12)
    }
    queue = []
    with module_grid.redis() as client:
        for n, body in enumerate(bodies.values()):
            queue.append(Call(patient_hub, body))
            until(lambda n=n: leftovers.waiting(client) == n + 1, 5, lambda: leftovers.told(client))
    running[0].drop()  # one slot: nobody can overtake
    for call in queue:
        assert call.finish().said == numbered(0, 3)
    assert _order(chain.engine, bodies) == [*bodies]


def test_what_is_tried_again_goes_before_what_came_later(chain: Chain, patient_hub: str, module_grid: Grid) -> None:
    """The slot that the failure frees may take the next in line before the hub has put the failed one back."""
    _taken(chain, slots=1)
    bodies = {
        "failing": chat("failing", double={"first_byte_ms": 300, "status": 500}),
        **{f"later {n}": chat(f"later {n}", tokens=3, double={"prefill_ms": 200}) for n in range(3)},
    }
    queue = []
    with module_grid.redis() as client:
        for n, body in enumerate(bodies.values()):
            queue.append(Call(patient_hub, body))
            until(lambda n=n: leftovers.jobs(client) == n + 2, 5, lambda: leftovers.told(client))
    failed, *later = [call.finish() for call in queue]
    assert failed.status == 502
    assert [answer.said for answer in later] == [numbered(0, 3)] * 3
    assert "failing" in _order(chain.engine, bodies)[1:3]


def test_the_registry_tells_how_many_wait_and_run(chain: Chain, module_grid: Grid) -> None:
    _taken(chain)
    _queued(chain.hub, 3, module_grid)
    (model,) = [one for one in get(chain.hub, "/api/registry").json["models"] if one["id"] == "tiny:1b"]
    assert (model["waiting"], model["running"]) == (3, SLOTS)
