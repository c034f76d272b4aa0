"""What clients of a `ghub connect` notice when a whole grid is restarted part by part: nothing."""

from pathlib import Path

import pytest

from bench.chaos.client import End
from tests.chaos.proof import prove

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

CLIENTS = 12
"""They ask on and on, for as long as it takes to restart everything."""


@pytest.mark.parametrize("scenario", ["upgrade-sentinel", "upgrade-cluster"])
def test_every_answer_comes_whole(scenario: str, tmp_path: Path) -> None:
    row = prove(scenario, tmp_path, streams=CLIENTS)
    assert row.ends[End.FINISHED] == row.streams
