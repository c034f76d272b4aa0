"""A client that opted in comes back for its answer, at any hub, whatever became of the one it asked."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from hub.relay.reader import LOOK_AT_ALL_S
from hub.resume.guard import MOST_READERS
from tests.doubles.process import EngineProcess
from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import Call, get, post
from tests.support.grid import Grid, chat
from tests.support.processes import until
from tests.support.resuming import RESUMABLE, Asked, cuts_of, follow, ids_of, joined, resume

QUICK = {"GHUB_HEARTBEAT_S": "0.3", "GHUB_HUB_FIRST_COMMENT_S": "0.3", "GHUB_HUB_COMMENT_INTERVAL_S": "0.5"}
SLOW = {"delay_ms": 10}
IN_FIVES = {"delay_ms": 10, "per_write": 5}
"""Five events to an entry, as where an engine is faster than the broker."""


@dataclass(frozen=True)
class Parts:
    """An engine whose answers are told by a hub that stays."""

    grid: Grid
    engine: EngineProcess
    hub: str

    def mortal_hub(self, **env: str) -> str:
        """A hub that the test may end."""
        hub = self.grid.hub(**{**QUICK, **env})
        self.grid.wait_for_model(hub, "tiny:1b")
        return hub

    def ask(self, hub: str, tokens: int, **body: Any) -> Asked:
        """A stream that can be resumed."""
        return Asked(hub, chat(tokens=tokens, stream=True, **body), headers=RESUMABLE)


@pytest.fixture(scope="module")
def _parts(module_grid: Grid) -> Parts:
    engine = module_grid.engine(slots=8)
    hub = module_grid.hub(**QUICK)
    module_grid.provider(engine.url, GHUB_HEARTBEAT_S="0.3", GHUB_PROVIDER_SLOTS="8")
    module_grid.wait_for_model(hub, "tiny:1b")
    return Parts(module_grid, engine, hub)


@pytest.fixture
def parts(_parts: Parts) -> Iterator[Parts]:
    """After each test the engine is free, and its job is off its lane."""
    _parts.engine.reset()
    yield _parts
    until(lambda: _parts.engine.state()["open"] == 0, 5, _parts.engine.state)
    with _parts.grid.redis() as client:
        leftovers.until_at_rest(client, 3)


def test_behind_every_single_event_the_rest_is_exactly_the_rest(parts: Parts) -> None:
    whole = parts.ask(parts.hub, 23, double=IN_FIVES).finish()
    assert whole.said == numbered(0, 23)
    ids = ids_of(whole.text)
    assert len(ids) == len(set(ids)) == len(cuts_of(whole.text))
    assert any(not one.endswith(".1") for one in ids), "no entry held several events"
    for last, read in cuts_of(whole.text):
        rest = resume(parts.hub, whole.headers["x-request-id"], last)
        assert read + rest.text == whole.text, last
    assert parts.engine.state()["started"] == 1


def test_a_stream_goes_on_at_another_hub_when_its_own_is_killed(parts: Parts) -> None:
    dying = parts.mortal_hub()
    with parts.ask(dying, 150, double=IN_FIVES) as call:
        read = call.wait_for("t30 ")
        request = call.request
        parts.grid.hubs[dying].kill()
    cuts = cuts_of(read)[-7:]
    assert any(not last.endswith(".1") for last, _ in cuts), "no cut lies within an entry"
    followers = [(kept, follow(parts.hub, request, last)) for last, kept in cuts]
    for kept, follower in followers:
        rest = follower.finish()
        assert joined(kept, rest) == numbered(0, 150)
        assert rest.is_ended_once
        assert rest.headers["x-request-id"] == request
    assert parts.engine.state()["started"] == 1


def test_an_adopted_stream_flows_as_smoothly_as_any(parts: Parts) -> None:
    """Its provider rings a dead hub's doorbell, which the new hub keeps and hears."""
    dying = parts.mortal_hub()
    with parts.ask(dying, 400, double=SLOW) as call:
        call.wait_for("t20 ")
        request = call.request
        parts.grid.hubs[dying].kill()
    gaps_s: list[float] = []
    with follow(parts.hub, request) as follower:
        follower.wait_for("t200 ")  # it has been adopted long before
        came_at = time.monotonic()
        for n in range(201, 350):
            follower.wait_for(f"t{n} ")
            gaps_s.append(time.monotonic() - came_at)
            came_at = time.monotonic()
        assert follower.finish().said == numbered(0, 400)
    assert max(gaps_s) < LOOK_AT_ALL_S / 2


def test_one_who_reads_at_another_hub_hears_each_token_as_soon(parts: Parts) -> None:
    other = parts.mortal_hub()
    with parts.ask(parts.hub, 100, double=SLOW) as call, follow(other, call.request) as follower:
        assert follower.finish().text == call.finish().text
    parts.grid.hubs[other].stop()


def test_the_client_may_leave_and_come_back_to_the_same_hub(parts: Parts) -> None:
    call = parts.ask(parts.hub, 60, double=SLOW)
    read = call.wait_for("t9 ")
    request = call.request
    call.drop()
    last, kept = cuts_of(read)[-1]
    assert joined(kept, resume(parts.hub, request, last)) == numbered(0, 60)
    assert parts.engine.state()["started"] == 1


def test_nobody_reads_it_for_the_whole_window_and_its_engine_is_freed(parts: Parts) -> None:
    hub = parts.mortal_hub(GHUB_HUB_RESUME_WINDOW_S="1")
    call = parts.ask(hub, 100_000, double=SLOW)
    call.wait_for("t3 ")
    request = call.request
    call.drop()
    took_s = until(lambda: parts.engine.state()["open"] == 0, 6, parts.engine.state)
    assert took_s > 0.5
    until(lambda: get(hub, f"/v1/requests/{request}").json["status"] == "cancelled", 5, "cancelled")
    assert resume(hub, request).status == 410
    parts.grid.hubs[hub].stop()


def test_one_who_reads_elsewhere_keeps_it_going(parts: Parts) -> None:
    hub = parts.mortal_hub(GHUB_HUB_RESUME_WINDOW_S="1")
    other = parts.mortal_hub(GHUB_HUB_RESUME_WINDOW_S="1")
    call = parts.ask(hub, 350, double=SLOW)
    call.wait_for("t3 ")
    with follow(other, call.request) as follower:
        follower.wait_for("t3 ")
        call.drop()
        assert follower.finish().said == numbered(0, 350)
    for one in (hub, other):
        parts.grid.hubs[one].stop()


def test_a_hub_that_stops_hands_its_streams_on(parts: Parts) -> None:
    stopping = parts.mortal_hub(GHUB_HUB_SHUTDOWN_TIMEOUT_S="0.3")
    call = parts.ask(stopping, 250, double=SLOW)
    call.wait_for("t9 ")
    request = call.request
    parts.grid.hubs[stopping].signal(signal.SIGTERM)
    told = call.finish()
    assert told.error["code"] == "handed_on"
    assert parts.grid.hubs[stopping].wait(8) == 0
    last, kept = cuts_of(told.text)[-1]
    rest = resume(parts.hub, request, last)
    assert joined(kept, rest) == numbered(0, 250)
    assert parts.engine.state()["started"] == 1


def test_a_hub_that_stops_sends_those_elsewhere_who_read_other_hubs_answers(parts: Parts) -> None:
    stopping = parts.mortal_hub(GHUB_HUB_SHUTDOWN_TIMEOUT_S="0.3")
    with parts.ask(parts.hub, 250, double=SLOW) as call:
        with follow(stopping, call.request) as follower:
            follower.wait_for("t9 ")
            parts.grid.hubs[stopping].signal(signal.SIGTERM)
            told = follower.finish()
        assert told.error["code"] == "handed_on"
        last, kept = cuts_of(told.text)[-1]
        assert joined(kept, resume(parts.hub, call.request, last)) == numbered(0, 250)
        assert call.finish().said == numbered(0, 250)
    assert parts.grid.hubs[stopping].wait(8) == 0


def test_so_many_may_read_one_answer_at_a_hub_and_no_more(parts: Parts) -> None:
    with parts.ask(parts.hub, 300, double=SLOW) as call, ExitStack() as readers:
        for _ in range(MOST_READERS - 1):
            readers.enter_context(follow(parts.hub, call.request)).wait_for("t0 ")
        refused = resume(parts.hub, call.request)
        assert (refused.status, refused.error["code"]) == (429, "too_many_readers")
        assert refused.headers["retry-after"]
        readers.pop_all().close()
        assert call.finish().said == numbered(0, 300)


def test_who_has_read_everything_hears_that_there_is_nothing_more(parts: Parts) -> None:
    whole = parts.ask(parts.hub, 3).finish()
    answer = resume(parts.hub, whole.headers["x-request-id"], ids_of(whole.text)[-1])
    assert (answer.status, answer.text) == (204, "")


def test_a_whole_answer_waits_for_its_client_at_another_hub(parts: Parts) -> None:
    dying = parts.mortal_hub()
    body = chat(tokens=120, double=SLOW)
    with Call(dying, body, headers={"idempotency-key": "whole-1"}) as call:
        until(lambda: parts.engine.state()["open"] == 1, 5, parts.engine.state)
        parts.grid.hubs[dying].kill()
        with pytest.raises(OSError, match=r"."):
            call.finish()
    again = post(parts.hub, body, headers={"idempotency-key": "whole-1"})
    assert (again.status, again.said) == (200, numbered(0, 120))
    assert again.headers["idempotent-replayed"] == "true"
    assert parts.engine.state()["started"] == 1


def test_the_same_key_finds_a_stream_again_whose_hub_was_killed(parts: Parts) -> None:
    dying = parts.mortal_hub()
    body = chat(tokens=150, stream=True, double=SLOW)
    key = {"idempotency-key": "stream-1"}
    with Asked(dying, body, headers=key) as call:
        call.wait_for("t9 ")
        request = call.request
        parts.grid.hubs[dying].kill()
    again = post(parts.hub, body, headers=key)
    assert again.said == numbered(0, 150)
    assert again.headers["x-request-id"] == request
    assert again.headers["idempotent-replayed"] == "true"
    assert parts.engine.state()["started"] == 1


def test_what_is_resumable_can_be_looked_at_and_cancelled_by_its_client(parts: Parts) -> None:
    other = parts.mortal_hub()
    with parts.ask(parts.hub, 100_000, double=SLOW) as call:
        call.wait_for("t3 ")
        request = call.request
        shown = get(other, f"/v1/requests/{request}").json
        assert (shown["id"], shown["object"], shown["model"]) == (request, "request", "tiny:1b")
        assert (shown["stream"], shown["resumable"], shown["error"]) == (True, True, None)
        cancelled = Call(other, path=f"/v1/requests/{request}", method="DELETE").finish()
        assert cancelled.status == 202
        assert call.finish().error["code"] == "cancelled_by_client"
    until(lambda: get(other, f"/v1/requests/{request}").json["error"] == {"code": "cancelled_by_client"}, 5, "told")
    parts.grid.hubs[other].stop()
