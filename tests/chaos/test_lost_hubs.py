"""Hubs that are lost, and clients that are slow or go away."""

from pathlib import Path

import pytest

from bench.chaos.client import End
from tests.chaos.proof import prove

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]


def test_streams_of_a_killed_hub_are_resumed_at_the_other_and_plain_ones_free_their_engines(tmp_path: Path) -> None:
    row = prove("hub-kill", tmp_path)
    assert row.resumed
    assert row.ends[End.HUB_LOST]
    assert row.ends[End.FINISHED] == row.streams - row.ends[End.HUB_LOST]


def test_slow_and_leaving_clients_cost_nobody_anything(tmp_path: Path) -> None:
    row = prove("clients", tmp_path)
    assert row.ends[End.LEFT]
    assert row.ends[End.FINISHED] == row.streams - row.ends[End.LEFT]
