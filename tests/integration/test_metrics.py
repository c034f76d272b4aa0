"""`/metrics` of a hub: its figures are those that a client counts, and hubs that share a port tell their sums."""

from collections.abc import Callable
from pathlib import Path

from tests.support.brokers import BrokerProcess
from tests.support.call import Call, get, is_ok
from tests.support.figures import figures, total
from tests.support.grid import Grid, chat
from tests.support.operator import ADMIN, ask
from tests.support.pair import Pair
from tests.support.ports import free_port
from tests.support.processes import Process, python, until


def test_the_figures_are_those_that_a_client_counts(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair(GHUB_PROVIDER_SLOTS="2")
    mine = {"model": pair.model}
    tokens = 0
    for count in (3, 5, 8):
        answer = pair.call(tokens=count, stream=True).finish()
        assert answer.status == 200
        tokens += count
    assert pair.call(tokens=4).finish().status == 200
    assert pair.call(double={"status": 400, "error_body": "broken"}).finish().status == 400
    assert Call(pair.hub, chat(model="nobodys:1b")).finish().status == 404
    assert Call(pair.hub, b"{").finish().status == 400
    with pair.ask_first(stream=True, tokens=10_000, double={"delay_ms": 20}) as call:
        call.wait_for("t3 ")
        running = figures(pair.hub)
        assert total(running, "ghub_model_nodes", **mine) == 1
        until(lambda: total(figures(pair.hub), "ghub_node_running", node=pair.first_node) == 1, 5, "it runs")
        assert total(figures(pair.hub), "ghub_lane_jobs", **mine, state="running") == 1
    until(
        lambda: total(figures(pair.hub), "ghub_requests_total", **mine) == 6, 3, lambda: get(pair.hub, "/metrics").text
    )
    found = figures(pair.hub)
    outcomes = {
        name: total(found, "ghub_requests_total", **mine, outcome=name) for name in ("done", "failed", "cancelled")
    }
    assert outcomes == {"done": 4, "failed": 1, "cancelled": 1}
    assert total(found, "ghub_tokens_total", **mine, kind="completion") == tokens + 4
    assert total(found, "ghub_request_seconds_count", **mine) == 4
    assert total(found, "ghub_first_token_seconds_count", **mine) == 4, "three whole streams and a part of one"
    assert total(found, "ghub_queue_seconds_count", **mine) == 6
    assert total(found, "ghub_requests_total", outcome="refused", code="model_not_found", model="") >= 1
    assert total(found, "ghub_requests_total", outcome="refused", code="invalid_json", model="") >= 1
    assert total(found, "ghub_broker_up") == 1


def test_an_attempt_that_came_to_nothing_is_counted(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair()
    before = total(figures(pair.hub), "ghub_requeues_total")
    failing = pair.call(double={"status": 500, "error_body": "broken"}).finish()
    assert failing.status == 502
    assert total(figures(pair.hub), "ghub_requeues_total") == before + 2, "three attempts"


def test_without_a_broker_a_hub_tells_its_own_figures(mortal_grid: Grid) -> None:
    hub = mortal_grid.hub()
    assert Call(hub, chat(model="nobodys:1b")).finish().status == 404
    mortal_grid.broker.kill()
    until(lambda: total(figures(hub), "ghub_broker_up") == 0, 10, lambda: get(hub, "/metrics").text)
    assert total(figures(hub), "ghub_requests_total", code="model_not_found") == 1


def test_where_clients_need_keys_only_an_operator_sees_the_figures(module_grid: Grid) -> None:
    hub = module_grid.hub(GHUB_HUB_AUTH="required", **ADMIN)
    assert ask(hub, "GET", "/metrics", token=None).status == 401
    assert ask(hub, "GET", "/metrics").status == 200


def test_hubs_that_share_a_port_tell_the_sums_of_all(tmp_path: Path, module_grid: Grid) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    broker: BrokerProcess = module_grid.broker
    words = ("hub", "--workers", "2", "--port", str(port), "--redis-url", broker.url)
    parent = Process("ghub", python("-m", "ghub", *words), tmp_path / "ghub.log", {})
    try:
        until(lambda: parent.log.read_text().count("hub_started") == 2, 30, parent.tail)
        until(lambda: all(is_ok(url, "/health/ready") for _ in range(12)), 20, parent.tail)  # both of them
        for _ in range(24):  # each on a connection of its own: the system deals them out
            assert Call(url, chat(model="nobodys:1b")).finish().status == 404
        told = {total(figures(url), "ghub_requests_total", code="model_not_found") for _ in range(8)}
        assert told == {24}
    finally:
        parent.stop()
