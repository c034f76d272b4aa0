"""Providers and engines that are lost, or only seem so, under streams that all end with exactly their own tokens."""

from pathlib import Path

import pytest

from bench.chaos.client import End
from tests.chaos.proof import prove

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]


def test_streams_of_a_killed_provider_go_on_at_the_others(tmp_path: Path) -> None:
    row = prove("provider-kill", tmp_path)
    assert row.ends[End.FINISHED] == row.streams
    assert row.victims


def test_a_provider_that_was_stopped_wakes_late_and_doubles_nothing(tmp_path: Path) -> None:
    row = prove("provider-stop", tmp_path, tokens=200)
    assert row.ends[End.FINISHED] == row.streams
    assert row.victims


def test_streams_of_a_killed_engine_go_on_at_the_others(tmp_path: Path) -> None:
    row = prove("engine-kill", tmp_path)
    assert row.ends[End.FINISHED] == row.streams
    assert row.victims


def test_a_prompt_that_kills_its_engine_ends_alone(tmp_path: Path) -> None:
    row = prove("poison", tmp_path)
    assert row.ends[End.FINISHED] == row.streams - 1
