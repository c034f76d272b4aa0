"""What is shown of nodes, who may write anything into their entries."""

from dataclasses import replace
from typing import Any

import pytest

from common.records.grid import NodeRecord
from common.types import ModelId, NodeId, NodeState, RequestId
from hub.overview.parts import node_shown, running_of

ONE, TWO = "1" * 32, "2" * 32
NODE = NodeRecord(
    node=NodeId("desk"),
    instance="i",
    version="0.1.0",
    hostname="desk",
    state=NodeState.BUSY,
    reasons=(),
    models=(ModelId("tiny:1b"),),
    loaded=(),
    slots=2,
    requests=(RequestId(ONE),),
    engine={"kind": "ollama", "version": None, "url": 7, "secret": "x"},
    started_at=1,
    heartbeat_at=12_000,
    gpus=({"name": "H100", "uuid": "", "memory_used_mib": None, "utilization_pct": 5, "power_w": "much", "x": 1},),
)


def progress(**fields: Any) -> dict[str, Any]:
    return {"id": ONE, "model": "tiny:1b", "lane": "batch", "attempt": 2, "claimed_at": 1000, **fields}


def test_only_what_is_known_of_gpu_and_engine_is_shown() -> None:
    shown = node_shown(NODE)
    assert shown["gpus"] == [{"name": "H100", "utilization_pct": 5}]
    assert shown["engine"] == {"kind": "ollama"}


def test_a_pace_is_told_as_of_the_last_heartbeat() -> None:
    told = progress(first_data_at=2000, tokens=50)
    (shown,) = running_of([replace(NODE, running=(told,))]).values()
    assert shown == {
        "model": "tiny:1b",
        "node": "desk",
        "lane": "batch",
        "attempt": 2,
        "claimed_at": 1000,
        "first_data_at": 2000,
        "tokens": 50,
        "status": "streaming",
        "tokens_per_s": 5.0,
    }


def test_no_pace_is_told_of_what_has_just_begun_or_not_yet() -> None:
    for told in (progress(), progress(first_data_at=11_900, tokens=9), progress(first_data_at=99_000, tokens=9)):
        (shown,) = running_of([replace(NODE, running=(told,))]).values()
        assert "tokens_per_s" not in shown


@pytest.mark.parametrize(
    "told",
    [
        {},
        progress(id="../../x"),
        progress(id=7),
        progress(id=ONE.upper() + "x"),
        progress(model=None),
        progress(lane="express"),
        progress(lane=["batch"]),
    ],
)
def test_what_names_no_request_is_passed_over(told: dict[str, Any]) -> None:
    assert running_of([replace(NODE, running=(told,))]) == {}


def test_figures_that_are_none_are_left_out() -> None:
    told = progress(attempt="2", tokens=True, first_data_at=None, claimed_at=[1])
    (shown,) = running_of([replace(NODE, running=(told,))]).values()
    assert shown == {"model": "tiny:1b", "node": "desk", "lane": "batch", "status": "claimed"}


def test_of_two_nodes_that_name_a_request_the_later_attempt_counts() -> None:
    first = replace(NODE, running=(progress(attempt=1),))
    second = replace(NODE, node=NodeId("other"), running=(progress(attempt=2), progress(id=TWO)))
    for nodes in ([first, second], [second, first]):
        found = running_of(nodes)
        assert (found[ONE]["node"], found[ONE]["attempt"]) == ("other", 2)
        assert found.keys() == {ONE, TWO}
