"""Until when something is good, as people write it."""

import pytest

from hub.office.expiry import expiry_ms

NOON = 1_735_732_800_000  # 2025-01-01T12:00Z
HOUR = 3_600_000


@pytest.mark.parametrize(
    ("said", "hours"),
    [
        ("90m", 1.5),
        ("12h", 12),
        ("30d", 720),
        ("4w", 672),
        ("2025-01-01", 12),
        ("2025-01-02", 36),
        ("2025-01-01T13:00", 1),
        ("2025-01-01T13:00Z", 1),
        ("2025-01-01T15:00+02:00", 1),
    ],
)
def test_a_duration_a_day_to_its_end_or_a_moment_is_understood(said: str, hours: float) -> None:
    assert expiry_ms(said, NOON) == NOON + hours * HOUR


@pytest.mark.parametrize("said", ["", "0d", "-1d", "1y", "30", "3 d", "²d", "2025-13-01", "9999-12-31", "soon", "1d\n"])
def test_anything_else_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        expiry_ms(said, NOON)


@pytest.mark.parametrize("said", ["2024-12-31", "2025-01-01T11:59", "0001-01-01"])
def test_the_past_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match="past"):
        expiry_ms(said, NOON)
