"""Brokers that are lost with what they held, and lines to them that fail."""

from pathlib import Path

import pytest

from bench.chaos.client import End
from tests.chaos.proof import prove

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]


@pytest.mark.parametrize(
    "scenario", ["broker-empty", "broker-appendonly", "broker-sentinel", "cluster-kill-jobs", "cluster-kill-replies"]
)
def test_all_streams_outlive_a_killed_broker_and_what_it_forgets(scenario: str, tmp_path: Path) -> None:
    row = prove(scenario, tmp_path)
    assert row.ends[End.FINISHED] == row.streams


def test_slots_of_a_cluster_that_move_cost_no_token(tmp_path: Path) -> None:
    row = prove("cluster-move", tmp_path)
    assert row.ends[End.FINISHED] == row.streams


def test_a_line_that_is_half_closed_then_cut_then_stalled_costs_no_token(tmp_path: Path) -> None:
    row = prove("network", tmp_path, tokens=180)
    assert row.ends[End.FINISHED] == row.streams
