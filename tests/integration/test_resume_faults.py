"""Answers that can be resumed outlive more than one thing: several hubs, a hub that wakes late, nodes, the broker."""

import signal
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.doubles.process import EngineProcess
from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import get, post
from tests.support.client_keys import AUTH, TestKey, wait_for_model
from tests.support.grid import Grid, chat
from tests.support.processes import Process, until
from tests.support.resuming import RESUMABLE, Asked, cuts_of, follow, joined, resume

QUICK = {"GHUB_HEARTBEAT_S": "0.3", "GHUB_HUB_FIRST_COMMENT_S": "0.3", "GHUB_HUB_COMMENT_INTERVAL_S": "0.5"}
SLOW = {"delay_ms": 10}
GHOST = "ghost-00000000"
"""A hub that is not there."""


@dataclass
class Parts:
    """A grid of one node, and hubs as many as a test needs."""

    grid: Grid
    engine: EngineProcess
    hubs: list[str] = field(default_factory=list)

    def hub(self, **env: str) -> str:
        hub = self.grid.hub(**{**QUICK, **env})
        self.grid.wait_for_model(hub, "tiny:1b")
        return hub

    def process(self, hub: str) -> Process:
        return self.grid.hubs[hub]

    def ask(self, hub: str, tokens: int, **body: Any) -> Asked:
        """A stream that can be resumed."""
        return Asked(hub, chat(tokens=tokens, stream=True, **body), headers=RESUMABLE)

    def looked_after_by(self, request: str) -> str:
        """The id of the hub that looks after a request, as far as its hash says."""
        with self.grid.redis() as client:
            return str(client.hget(f"ghub:request:{request}", "hub"))

    def left_by_a_ghost(self, request: str, **facts: str) -> None:
        """Make a request that is over look as if its hub had died while it ran."""
        name = f"ghub:request:{request}"
        with self.grid.redis() as client:
            client.hdel(name, "ended_at", "prompt_tokens", "completion_tokens", "error")
            client.hset(name, mapping={"status": "streaming", "hub": GHOST, **facts})
            client.sadd(f"ghub:{{open}}:{GHOST}", request)
            client.expire(f"ghub:{{open}}:{GHOST}", 60)
            client.zadd("ghub:hubs", {GHOST: int(time.time() * 1000)})


@pytest.fixture
def parts(mortal_grid: Grid) -> Parts:
    engine = mortal_grid.engine(slots=8, kind="llamacpp")
    mortal_grid.provider(engine.url, wait=False, GHUB_PROVIDER_SLOTS="2", **QUICK)
    return Parts(mortal_grid, engine)


def test_two_hubs_die_one_after_the_other(parts: Parts) -> None:
    first, second, third = parts.hub(), parts.hub(), ""
    with parts.ask(first, 500, double=SLOW) as call:
        read = call.wait_for("t20 ")
        request, hub = call.request, parts.looked_after_by(call.request)
        parts.process(first).kill()
    last, kept = cuts_of(read)[-1]
    until(lambda: parts.looked_after_by(request) != hub, 10, "adopted")
    third = parts.hub()
    with follow(second, request, last) as follower:
        kept += follower.wait_for("t150 ")
        parts.process(second).kill()
    last, kept = cuts_of(kept)[-1]
    assert joined(kept, resume(third, request, last)) == numbered(0, 500)
    assert parts.engine.state()["started"] == 1


def test_a_hub_that_wakes_late_harms_nobody_who_reads_elsewhere(parts: Parts) -> None:
    """It takes the request for its own still, while another hub looks after it; nobody reads at the one that woke."""
    window = {"GHUB_HUB_RESUME_WINDOW_S": "1.5"}
    sleeper, other = parts.hub(**window), parts.hub(**window)
    call = parts.ask(sleeper, 700, double=SLOW)
    read = call.wait_for("t20 ")
    request, hub = call.request, parts.looked_after_by(call.request)
    parts.process(sleeper).signal(signal.SIGSTOP)
    last, kept = cuts_of(read)[-1]
    with follow(other, request, last) as follower:
        until(lambda: parts.looked_after_by(request) != hub, 10, "adopted")
        parts.process(sleeper).signal(signal.SIGCONT)
        call.drop()
        rest = follower.finish()
    assert joined(kept, rest) == numbered(0, 700)
    assert parts.engine.state()["started"] == 1


def test_one_that_waits_in_its_lane_is_run_for_the_hub_that_takes_it_over(parts: Parts) -> None:
    dying, other = parts.hub(), parts.hub()
    busy = [parts.ask(other, 150, double=SLOW) for _ in range(2)]
    for one in busy:
        one.wait_for("t3 ")
    with parts.ask(dying, 20) as waits:
        waits.wait_for(": queued")
        request = waits.request
        parts.process(dying).kill()
    assert resume(other, request).said == numbered(0, 20)
    assert [one.finish().said for one in busy] == [numbered(0, 150)] * 2
    assert parts.engine.state()["started"] == 3


def test_a_broker_that_restarts_empty_takes_nothing_from_who_reads_elsewhere(parts: Parts) -> None:
    hub, other = parts.hub(), parts.hub()
    body = chat(tokens=500, stream=True, double=SLOW)
    key = {"idempotency-key": "outlives"}
    with Asked(hub, body, headers=key) as call:
        call.wait_for("t20 ")
        with follow(other, call.request) as follower:
            follower.wait_for("t20 ")
            parts.grid.broker.kill()
            parts.grid.broker.start()
            assert follower.finish().said == numbered(0, 500)
        assert call.finish().said == numbered(0, 500)
        request = call.request
    again = post(hub, body, headers=key)
    assert again.headers["x-request-id"] == request
    assert again.said == numbered(0, 500)
    assert parts.engine.state()["started"] == 1


def test_a_node_and_the_hub_die_together_and_another_node_goes_on(parts: Parts) -> None:
    dying, other = parts.hub(), parts.hub()
    second = parts.grid.engine(slots=8, kind="llamacpp")
    parts.grid.provider(second.url, GHUB_PROVIDER_SLOTS="2", **QUICK)
    with parts.ask(dying, 300, double=SLOW) as call:
        read = call.wait_for("t40 ")
        request = call.request
        parts.grid.providers[call.node].kill()
        parts.process(dying).kill()
    last, kept = cuts_of(read)[-1]
    rest = resume(other, request, last)
    assert joined(kept, rest) == numbered(0, 300)
    again = resume(other, request)
    assert again.said == numbered(0, 300)
    assert again.headers["x-ghub-attempt"] == "2"
    assert any(last.startswith("2-") for last, _ in cuts_of(again.text))


def test_nothing_is_left_when_all_is_over(parts: Parts) -> None:
    dying, other = parts.hub(), parts.hub(GHUB_HUB_ANSWER_KEEP_S="10")
    with parts.ask(dying, 60, double=SLOW) as call:
        call.wait_for("t9 ")
        request = call.request
        parts.process(dying).kill()
    assert resume(other, request).said == numbered(0, 60)
    with parts.grid.redis() as client:
        leftovers.until_at_rest(client, 5)
        until(
            lambda: not [key for key in leftovers.keys(client) if ":{open}:" in key], 5, lambda: leftovers.told(client)
        )
        until(lambda: 0 < client.ttl(leftovers.replies(client)[0]) <= 10, 5, lambda: leftovers.told(client))
        assert leftovers.immortal(client) == []


def test_the_end_that_a_dead_hub_did_not_hear_of_is_told_by_another(parts: Parts) -> None:
    """Its node had said the last word and taken the job off its lane."""
    hub = parts.hub()
    whole = parts.ask(hub, 5).finish()
    request = whole.headers["x-request-id"]
    until(lambda: get(hub, f"/v1/requests/{request}").json["status"] == "done", 5, "done")
    parts.left_by_a_ghost(request)
    until(lambda: get(hub, f"/v1/requests/{request}").json["status"] == "done", 5, "done again")
    assert parts.looked_after_by(request) != GHOST
    assert resume(hub, request).text == whole.text
    shown = get(hub, f"/v1/requests/{request}").json
    assert shown["usage"] == {"prompt_tokens": 1, "completion_tokens": 5}


def test_what_nobody_can_go_on_with_is_said_to_be_lost(parts: Parts) -> None:
    hub = parts.hub()
    request = parts.ask(hub, 5).finish().headers["x-request-id"]
    until(lambda: get(hub, f"/v1/requests/{request}").json["status"] == "done", 5, "done")
    parts.left_by_a_ghost(request, reply="")
    until(lambda: get(hub, f"/v1/requests/{request}").json["status"] == "failed", 5, "failed")
    lost = resume(hub, request)
    assert (lost.status, lost.error["code"]) == (502, "hub_lost")


def test_nobody_waits_for_ever_for_the_end_of_one_that_the_broker_lost(parts: Parts) -> None:
    """The last things that were written, as when it was killed; the hub lives, and has forgotten the request."""
    hub = parts.hub()
    request = parts.ask(hub, 5).finish().headers["x-request-id"]
    until(lambda: get(hub, f"/v1/requests/{request}").json["status"] == "done", 5, "done")
    with parts.grid.redis() as client:
        reply = client.hget(f"ghub:request:{request}", "reply")
        (newest, _), *_ = client.xrevrange(reply, count=1)
        client.xdel(reply, newest)
        client.hdel(f"ghub:request:{request}", "ended_at", "prompt_tokens", "completion_tokens")
        client.hset(f"ghub:request:{request}", "status", "streaming")
    with follow(hub, request) as call:
        call.wait_for("hub_lost")


def test_one_that_never_came_into_its_lane_is_asked_for_anew_by_its_key(parts: Parts) -> None:
    """It waited for its turn at a hub, which took that with it."""
    env = {**AUTH, **QUICK, "GHUB_HUB_LIMIT_LEASE_S": "3"}
    dying, other = (parts.grid.hub(**env) for _ in range(2))
    for hub in (dying, other):
        wait_for_model(parts.grid, hub)
    with parts.grid.redis() as client:
        key = TestKey(client, concurrency=1)
    running = Asked(dying, chat(tokens=200, stream=True, double=SLOW), headers={**RESUMABLE, **key.headers})
    running.wait_for("t3 ")
    headers = {**key.headers, "idempotency-key": "turn"}
    body = chat(tokens=8, stream=True)
    waits = Asked(dying, body, headers=headers)
    waits.wait_for(": queued")
    with follow(other, waits.request, headers=key.headers) as follower:
        follower.wait_for(": queued")
        parts.process(dying).kill()
        assert follower.finish().error["code"] == "hub_lost"
    again = Asked(other, body, headers=headers).finish()
    assert again.said == numbered(0, 8)
    assert again.headers["x-request-id"] != waits.request
    assert resume(other, running.request, headers=key.headers).said == numbered(0, 200)


TALK = {"model": "tiny:1b", "messages": [{"role": "user", "content": "hi"}], "stream": True}
STREAMS: dict[str, dict[str, Any]] = {
    "/v1/completions": {"model": "tiny:1b", "prompt": "hi", "max_tokens": 6, "stream": True},
    "/v1/responses": {"model": "tiny:1b", "input": "hi", "max_output_tokens": 6, "stream": True},
    "/v1/messages": {**TALK, "max_tokens": 6},
}


def test_the_streams_of_every_api_can_be_resumed(parts: Parts) -> None:
    hub, other = parts.hub(), parts.hub()
    for path, body in STREAMS.items():
        whole = Asked(hub, body, path=path, headers=RESUMABLE).finish()
        plain = post(hub, body, path=path)
        assert plain.status == 200, plain.text
        cuts = cuts_of(whole.text)
        assert len(cuts) == len([block for block in plain.text.split("\n\n") if block.strip()]), path
        for last, read in cuts:
            assert read + resume(other, whole.headers["x-request-id"], last).text == whole.text, (path, last)
    failed = Asked(hub, {**STREAMS["/v1/messages"], "double": {"status": 400}}, path="/v1/messages", headers=RESUMABLE)
    assert failed.finish().json["type"] == "error"
