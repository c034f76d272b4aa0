"""The versions that were tested stand in two places for two tools; they must say the same."""

import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def test_uv_and_pip_pin_the_same_versions() -> None:
    pinned = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["uv"]["constraint-dependencies"]
    assert pinned == (PROJECT / "constraints.txt").read_text().split()
    assert all("==" in pin and "/" not in pin for pin in pinned)
