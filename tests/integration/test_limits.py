"""The limits of client keys over real hubs: shared by them, true to the number, and free again whatever ends."""

import signal
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.doubles.reading import numbered
from tests.integration.registering import ADMIN_TOKEN
from tests.support.call import Answer, Call, post, post_all
from tests.support.client_keys import AUTH, TestKey, keyed_chain, wait_for_model
from tests.support.grid import Grid, chat
from tests.support.processes import until

MOST = 10
REQUESTS = 200
QUICK = {**AUTH, "GHUB_HUB_LIMIT_LEASE_S": "3", "GHUB_HUB_FIRST_COMMENT_S": "0.2", "GHUB_HUB_COMMENT_INTERVAL_S": "0.5"}


def _two_hubs(grid: Grid, **env: str) -> list[str]:
    """Two hubs that ask for keys, and an engine with more slots than any key may use."""
    hubs = [grid.hub(wait=False, **QUICK, **env) for _ in range(2)]
    engine = grid.engine(slots=64)
    grid.provider(engine.url, GHUB_PROVIDER_SLOTS="32")
    for hub in hubs:
        grid.wait_for_hub(hub)
        wait_for_model(grid, hub)
    return hubs


def _all(pool: ThreadPoolExecutor, hubs: list[str], key: TestKey, count: int, **fields: Any) -> list[Future[Answer]]:
    return [pool.submit(post, hubs[n % len(hubs)], chat(**fields), headers=key.headers) for n in range(count)]


@pytest.mark.timeout(120)
def test_of_two_hundred_at_two_hubs_never_more_run_than_may_and_none_is_lost(grid: Grid) -> None:
    hubs = _two_hubs(grid)
    with grid.redis() as client, ThreadPoolExecutor(REQUESTS) as pool:
        key = TestKey(client, concurrency=MOST)
        calls = _all(pool, hubs, key, REQUESTS, tokens=4, double={"delay_ms": 20})
        answers = [call.result() for call in calls]
        assert Counter(answer.status for answer in answers) == {200: REQUESTS}
        assert {answer.said for answer in answers} == {numbered(0, 4)}
        books = grid.engines[0].state()
        assert books["started"] == REQUESTS
        assert 2 < books["max_open"] <= MOST, "all of the limit is used, and no more"
        key.until_at_rest(client, 5)


@pytest.mark.timeout(120)
def test_a_hub_that_is_killed_among_two_hundred_takes_no_turn_with_it(grid: Grid) -> None:
    mortal, hub = _two_hubs(grid)
    engine = grid.engines[0]
    with grid.redis() as client, ThreadPoolExecutor(REQUESTS) as pool:
        key = TestKey(client, concurrency=MOST)
        lost = _all(pool, [mortal], key, REQUESTS // 2, tokens=10, double={"delay_ms": 30})
        kept = _all(pool, [hub], key, REQUESTS // 2, tokens=10, double={"delay_ms": 30})
        until(lambda: engine.state()["finished"] > 20, 20, engine.state)
        grid.hubs[mortal].signal(signal.SIGKILL)
        answers = [call.result() for call in kept]
        assert Counter(answer.status for answer in answers) == {200: REQUESTS // 2}
        assert sum(call.exception() is not None for call in lost) > 20, "it was killed in the middle"
        assert engine.state()["max_open"] <= MOST
        key.until_at_rest(client, 15)
    again = post_all([chat(tokens=2)] * MOST, [hub], headers=key.headers)
    assert {answer.status for answer in again} == {200}


def test_the_longest_jobs_of_a_killed_hub_end_before_their_turns_are_given_on(grid: Grid) -> None:
    """A generation that nobody waits for any more must not run beside the one that takes its turn."""
    mortal, hub = _two_hubs(grid)
    engine = grid.engines[0]
    with grid.redis() as client:
        key = TestKey(client, concurrency=2)
        lost = [
            Call(mortal, chat(tokens=4000, stream=True, double={"delay_ms": 20}), headers=key.headers) for _ in "ab"
        ]
        until(lambda: engine.state()["open"] == 2, 5, engine.state)
        waiting = Call(hub, chat(tokens=2, stream=True), headers=key.headers)
        waiting.wait_for(": queued, ")
        grid.hubs[mortal].signal(signal.SIGKILL)
        assert waiting.finish().said == numbered(0, 2)
        assert engine.state()["max_open"] == 2
        key.until_at_rest(client, 15)
    for call in lost:
        call.close()


@pytest.mark.timeout(120)
def test_one_that_waits_outlives_a_broker_that_comes_back_empty(mortal_grid: Grid) -> None:
    chain = keyed_chain(mortal_grid, GHUB_HEARTBEAT_S="0.3", **QUICK)
    with mortal_grid.redis() as client:
        key = TestKey(client, concurrency=1)
        running = Call(chain.hub, chat(double={"hang": True}), headers=key.headers)
        until(lambda: chain.engine.state()["open"] == 1, 5, chain.engine.state)
        waiting = Call(chain.hub, chat(tokens=2, stream=True), headers=key.headers)
        waiting.wait_for(": queued, 0 ahead\n")
    mortal_grid.broker.kill()
    mortal_grid.broker.start()
    mortal_grid.wait_for_node(chain.node)
    waiting.wait_for(": queued, 0 ahead\n")
    assert chain.engine.state()["started"] == 1, "the one that runs goes on, and it has the only turn"
    running.drop()
    assert waiting.finish().said == numbered(0, 2)
    with mortal_grid.redis() as client:
        key.until_at_rest(client, 10)


def test_who_leaves_the_line_frees_its_place_at_once(grid: Grid) -> None:
    hub, other = _two_hubs(grid)
    engine = grid.engines[0]
    with grid.redis() as client:
        key = TestKey(client, concurrency=1)
        running = Call(hub, chat(double={"hang": True}), headers=key.headers)
        until(lambda: engine.state()["open"] == 1, 5, engine.state)
        leaver = Call(hub, chat(tokens=2, stream=True), headers=key.headers)
        leaver.wait_for(": queued, 0 ahead\n")
        last = Call(other, chat(tokens=2, stream=True), headers=key.headers)
        last.wait_for(": queued, 1 ahead\n")
        leaver.drop()
        last.wait_for(": queued, 0 ahead\n")
        running.drop()
        assert last.finish().said == numbered(0, 2)
        assert engine.state()["started"] == 2
        key.until_at_rest(client, 5)


def test_a_line_that_is_full_refuses_the_next_and_nobody_else(grid: Grid) -> None:
    hub, _ = _two_hubs(grid, GHUB_HUB_MAX_QUEUE_PER_KEY="1")
    engine = grid.engines[0]
    with grid.redis() as client:
        key, other = TestKey(client, concurrency=1), TestKey(client, concurrency=1)
        running = Call(hub, chat(double={"hang": True}), headers=key.headers)
        until(lambda: engine.state()["open"] == 1, 5, engine.state)
        waiting = Call(hub, chat(tokens=2, stream=True), headers=key.headers)
        waiting.wait_for(": queued, 0 ahead\n")
        refused = post(hub, chat(), headers=key.headers)
        assert (refused.status, refused.error["code"]) == (429, "key_queue_full")
        assert refused.headers["retry-after"] == "5"
        assert post(hub, chat(tokens=2), headers=other.headers).said == numbered(0, 2)
        running.drop()
        assert waiting.finish().said == numbered(0, 2)


def test_a_minute_of_requests_is_shared_by_two_hubs_and_told_in_headers(grid: Grid) -> None:
    hubs = _two_hubs(grid)
    with grid.redis() as client:
        key = TestKey(client, rpm=4, tpm=1_000_000)
        answers = [post(hubs[n % 2], chat(tokens=2), headers=key.headers) for n in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["3", "2", "1", "0", "0"]
    assert {answer.headers["x-ratelimit-limit-requests"] for answer in answers} == {"4"}
    assert {answer.headers["x-ratelimit-limit-tokens"] for answer in answers} == {"1000000"}
    refused = answers[-1]
    assert refused.error["code"] == "rate_limit_exceeded"
    assert 10 <= int(refused.headers["retry-after"]) <= 15, "a fourth of a minute, less what has passed"
    assert refused.headers["x-ratelimit-reset-requests"].endswith("s")


def test_tokens_are_settled_to_what_the_engine_counted(grid: Grid) -> None:
    hub, other = _two_hubs(grid)
    with grid.redis() as client:
        key = TestKey(client, tpm=2000)
        assert post(hub, chat(tokens=1900), headers=key.headers).status == 200
        refused = post(other, chat(tokens=1900), headers=key.headers)
        assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
        assert post(other, chat(tokens=5), headers=key.headers).status == 200
        until(lambda: not key.held(client), 5, "settled")
    assert 30 <= int(refused.headers["retry-after"]) <= 60


def test_what_a_key_used_is_in_its_books_once_for_each_request(grid: Grid) -> None:
    hubs = _two_hubs(grid)
    with grid.redis() as client:
        key = TestKey(client, concurrency=3)
        answers = post_all([chat(tokens=7)] * 12, hubs, headers=key.headers)
        usage = [answer.json["usage"] for answer in answers]
        (book,) = [name for name in _until_counted(client, key, 12) if str(key.id) in name]
        found = client.hgetall(book)
    assert found["tiny:1b:requests"] == "12"
    assert found["tiny:1b:completion_tokens"] == str(sum(one["completion_tokens"] for one in usage))
    assert found["tiny:1b:prompt_tokens"] == str(sum(one["prompt_tokens"] for one in usage))


def _until_counted(client: Any, key: TestKey, requests: int) -> list[str]:
    def books() -> list[str]:
        return [str(name) for name in client.scan_iter(match=f"ghub:usage:{key.id}:*")]

    until(lambda: sum(int(client.hget(book, "tiny:1b:requests") or 0) for book in books()) == requests, 5, books)
    return books()


def test_what_waits_and_runs_of_a_key_ends_within_two_seconds_of_its_revocation(grid: Grid) -> None:
    """A key that leaked may have hundreds of requests waiting, and a stream lasts as long as its answer."""
    elsewhere, hub = _two_hubs(grid, GHUB_HUB_ADMIN_TOKEN=ADMIN_TOKEN)
    with grid.redis() as client:
        key, other = TestKey(client, concurrency=1), TestKey(client)
        for one in (key, other):
            until(lambda one=one: post(elsewhere, chat(tokens=1), headers=one.headers).status == 200, 5, "known")
        body = chat(tokens=400, stream=True, double={"delay_ms": 50})
        with (
            Call(elsewhere, body, headers=key.headers) as runs,
            Call(elsewhere, body, headers=other.headers) as untouched,
        ):
            runs.wait_for("data: ")
            untouched.wait_for("data: ")
            with Call(elsewhere, body, headers=key.headers) as waits:
                waits.wait_for("queued")
                began_at = time.monotonic()
                path = f"/api/keys/{key.id}"
                head = {"authorization": f"Bearer {ADMIN_TOKEN}"}
                assert Call(hub, path=path, method="DELETE", headers=head).finish().status == 200
                for call in (runs, waits):
                    assert call.finish().error["code"] == "invalid_api_key"
                assert time.monotonic() - began_at < 5
            key.until_at_rest(client, 3)
            assert grid.engines[0].state()["open"] == 1
            assert other.held(client)["turns"] == 1
            untouched.drop()
