"""What people see of a grid: the snapshot, what changes of it, and the last hour."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from tests.support.call import Call, get
from tests.support.grid import Grid, chat
from tests.support.pair import Pair
from tests.support.processes import until

SLOW = {"delay_ms": 20}


def overview(pair: Pair) -> dict[str, Any]:
    answer = get(pair.hub, "/api/overview")
    assert answer.status == 200, answer.text
    told: dict[str, Any] = answer.json
    return told


def nulls_in(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is None or any(nulls_in(one) for one in inner)


def applied(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        result[name] = None if value is None else applied(result.get(name), value)
    return {name: value for name, value in result.items() if value is not None}


def events_of(call: Call) -> Iterator[tuple[str, Any]]:
    """Events as they come."""
    seen = 0
    while True:
        text = call.wait_for("data: ") if seen == 0 else call.text
        blocks = text.replace("\r\n", "\n").split("\n\n")[:-1]
        for block in blocks[seen:]:
            lines = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
            if lines:
                yield lines["event"], json.loads(lines["data"])
        seen = len(blocks)
        assert call.read_some(), "the stream ended"


def test_a_request_that_runs_is_shown_with_its_pace(pair: Pair) -> None:
    with pair.ask_first(tokens=10_000, stream=True, double=SLOW) as call:
        call.wait_for("t30 ")

        def shown() -> dict[str, Any]:
            one: dict[str, Any] = overview(pair)["running"].get(call.request, {})
            return one

        until(lambda: shown().get("tokens", 0) > 30, 5, shown)
        one = shown()
        assert (one["node"], one["model"], one["lane"]) == (pair.first_node, pair.model, "interactive")
        assert (one["status"], one["attempt"]) == ("streaming", 1)
        assert 10 < one["tokens_per_s"] < 60, "an event each 20 ms"
        assert one["queued_at"] <= one["claimed_at"] <= one["first_data_at"]
        told = overview(pair)
        assert not nulls_in(told)
        assert told["nodes"][pair.first_node]["running"] == 1
        assert told["models"][pair.model]["running"] == 1
        assert told["totals"]["tokens_per_s"] >= one["tokens_per_s"] - 10
    until(lambda: call.request not in overview(pair)["running"], 5, "it is over")


def test_what_waits_is_shown_with_its_place(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair(GHUB_PROVIDER_SLOTS="1")
    with pair.ask_first(stream=True, double={"prefill_ms": 600_000}):
        calls = [pair.call(stream=True) for _ in range(3)]
        for call in calls:
            call.wait_for(": queued")
        told = overview(pair)
        lane = told["queues"][f"interactive:{pair.model}"]
        assert (lane["waiting"], lane["running"]) == (3, 1)
        mine = {name: one for name, one in told["waiting"].items() if one["model"] == pair.model}
        assert [mine[call.request]["place"] for call in calls] == [1, 2, 3]
        assert abs(lane["oldest_at"] - mine[calls[0].request]["queued_at"]) < 1000
        assert told["models"][pair.model]["waiting"] == 3
        for call in calls:
            call.close()
    pair.is_at_rest()


def test_whoever_applies_the_patches_has_the_snapshot(pair: Pair) -> None:
    with Call(pair.hub, path="/api/overview/stream", method="GET") as watching:
        events = events_of(watching)
        event, state = next(events)
        assert event == "snapshot"
        with pair.ask_first(tokens=10_000, stream=True, double=SLOW) as call:
            while call.request not in state["running"]:
                event, patch = next(events)
                assert event == "patch"
                state = applied(state, patch)
            assert state["nodes"][pair.first_node]["running"] == 1
        while call.request in state["running"]:
            state = applied(state, next(events)[1])
        while state["nodes"][pair.first_node]["running"]:
            state = applied(state, next(events)[1])


def test_what_ended_is_in_the_last_hour_of_every_hub(mortal_grid: Grid) -> None:
    chain = mortal_grid.chain(GHUB_HEARTBEAT_S="0.3")
    other = mortal_grid.hub(GHUB_HEARTBEAT_S="0.3")

    def sums(hub: str) -> dict[str, int]:
        points = get(hub, "/api/overview").json["history"]["points"].values()
        assert all(0 < point["first_token_p50_ms"] <= point["first_token_p95_ms"] for point in points)
        names = ("requests", "failed", "retried", "completion_tokens")
        return {name: sum(point[name] for point in points) for name in names}

    for hub in (chain.hub, chain.hub, other):
        assert Call(hub, chat(tokens=7, stream=True)).finish().status == 200
    assert Call(chain.hub, chat(double={"status": 500, "error_body": "broken"})).finish().status == 502
    expected = {"requests": 4, "failed": 1, "retried": 2, "completion_tokens": 21}
    for hub in (chain.hub, other):
        until(lambda hub=hub: sums(hub) == expected, 8, lambda hub=hub: sums(hub))


def test_what_a_hub_counted_last_is_there_when_it_has_stopped(mortal_grid: Grid) -> None:
    chain = mortal_grid.chain(GHUB_HEARTBEAT_S="0.3")
    other = mortal_grid.hub(GHUB_HEARTBEAT_S="0.3")
    assert Call(chain.hub, chat(tokens=7, stream=True)).finish().status == 200
    assert mortal_grid.hubs[chain.hub].stop() == 0
    points = get(other, "/api/overview").json["history"]["points"].values()
    assert [point["completion_tokens"] for point in points] == [7]


def test_a_stream_of_the_overview_ends_with_its_hub(pair: Pair) -> None:
    hub = pair.grid.hub(GHUB_HEARTBEAT_S="0.3")
    with Call(hub, path="/api/overview/stream", method="GET") as watching:
        watching.wait_for("snapshot")
        process = pair.grid.hubs[hub]
        process.stop()
        while watching.read_some():
            pass
        assert "graceful" not in process.log.read_text()
        assert "Traceback" not in process.log.read_text()
