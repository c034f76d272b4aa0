"""Health reports of providers: every hub shows the latest of each node, there or gone, and takes no nonsense."""

import json
import time
from typing import Any

import pytest

from tests.integration.test_provider_api import ENV, LIMIT_BYTES, REPORT_PATH, report, send
from tests.support.call import get
from tests.support.grid import Grid
from tests.support.processes import until


@pytest.fixture(scope="module")
def hubs(module_grid: Grid) -> list[str]:
    """Two hubs of one grid."""
    return [module_grid.hub(**ENV) for _ in range(2)]


@pytest.fixture
def hub(hubs: list[str]) -> str:
    return hubs[0]


def absent(hub: str) -> dict[str, Any]:
    """The reports of nodes that are not there."""
    return {one["node"]: one["report"] for one in get(hub, "/api/registry").json["absent"]}


def test_a_report_to_one_hub_shows_at_all(hubs: list[str]) -> None:
    answer = send(hubs[0], REPORT_PATH, report("seen"))
    assert (answer.status, answer.text) == (204, "")
    for hub in hubs:
        shown = absent(hub)["seen"]
        assert shown.pop("reported_at") == pytest.approx(time.time() * 1000, abs=10_000)
        assert shown["gpus"][0].items() >= report()["gpus"][0].items()
        assert shown["engine"].items() >= report()["engine"].items()
        assert {**shown, "gpus": [], "engine": {}} == {**report("seen"), "gpus": [], "engine": {}}


def test_the_latest_report_is_the_one_that_shows(hubs: list[str]) -> None:
    for hub, state in zip(hubs, ("busy", "idle"), strict=True):
        assert send(hub, REPORT_PATH, report("changing", state=state, reasons=[])).status == 204
    assert absent(hubs[0])["changing"]["state"] == "idle"


def test_the_least_that_a_provider_can_say_is_enough(hub: str) -> None:
    least = {"node": "terse", "version": "", "state": "idle", "engine": {"kind": "openai"}, "later_field": 1}
    assert send(hub, REPORT_PATH, least).status == 204
    shown = absent(hub)["terse"]
    assert (shown["gpus"], shown["models"], shown["slots"]) == ([], [], 0)
    assert "later_field" not in shown


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"state": "dancing"}, "state"),
        ({"node": "two words"}, "node"),
        ({"node": "x" * 65}, "node"),
        ({"node": "a\n"}, "node"),
        ({"slots": -1}, "slots"),
        ({"slots": 10**30}, "slots"),
        ({"gpus": [{"name": "H100"}, {"name": "H100", "utilization_pct": 101}]}, "gpus.1"),
        ({"gpus": [{"name": "x"}] * 257}, "gpus"),
        ({"reasons": "gpu-busy"}, "reasons"),
        ({"reasons": [""] * 65}, "reasons"),
        ({"engine": None}, "engine"),
        ({"public_url": "x" * 1025}, "public_url"),
    ],
)
def test_a_wrong_field_is_named(hub: str, wrong: dict[str, Any], param: str) -> None:
    answer = send(hub, REPORT_PATH, report("wrong", **wrong))
    assert (answer.status, answer.error["param"]) == (400, param)
    assert "wrong" not in absent(hub)


def test_a_missing_field_is_named(hub: str) -> None:
    body = {name: value for name, value in report("wrong").items() if name != "state"}
    answer = send(hub, REPORT_PATH, body)
    assert (answer.status, answer.error["code"]) == (400, "missing_required_parameter")
    assert answer.error["param"] == "state"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b"null", b'{"node": NaN}'])
def test_what_is_no_report_is_refused(hub: str, body: bytes) -> None:
    answer = send(hub, REPORT_PATH, body)
    assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")


def test_a_number_beyond_all_bounds_breaks_no_registry(hub: str) -> None:
    body = json.dumps(report("wrong", gpus=[{"name": "x", "power_w": 1.5}])).replace("1.5", "1e999").encode()
    assert send(hub, REPORT_PATH, body).status == 400
    assert get(hub, "/api/registry").status == 200


def test_a_report_that_is_too_large_is_refused(hub: str) -> None:
    body = json.dumps(report()).encode()
    answer = send(hub, REPORT_PATH, body + b" " * (LIMIT_BYTES - len(body) + 1))
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert send(hub, REPORT_PATH, body + b" " * (LIMIT_BYTES - len(body))).status == 204


def test_a_live_node_shows_its_report_and_a_lost_one_keeps_it(mortal_grid: Grid) -> None:
    hub, node, _ = mortal_grid.chain(**ENV)
    (listed,) = get(hub, "/api/registry").json["nodes"]
    assert (listed["node"], listed["report"]) == (node, None)
    assert send(hub, REPORT_PATH, report(node)).status == 204
    picture = get(hub, "/api/registry").json
    assert picture["nodes"][0]["report"]["gpus"][0]["utilization_pct"] == 85
    assert picture["absent"] == []
    mortal_grid.providers[node].kill()
    until(lambda: not get(hub, "/api/registry").json["nodes"], 10, lambda: get(hub, "/api/registry").text)
    assert absent(hub)[node]["gpus"][0]["utilization_pct"] == 85
