"""How property tests run: without a clock on single examples, which a busy machine would trip."""

from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, Phase, settings

from provider.replies import reopening
from tests.unit.virtual_time import now_s

settings.register_profile("ghub", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "mutants",
    settings.get_profile("ghub"),
    max_examples=30,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
"""For mutation tests, which run each test many times in one process (docs/testing.md)."""
settings.load_profile("ghub")


@pytest.fixture
def one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reopening, "time", SimpleNamespace(monotonic=now_s))
