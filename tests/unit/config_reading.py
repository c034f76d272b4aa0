"""A provider's file as a test writes it, and what reading it says; nothing from outside counts."""

import os
from pathlib import Path

import pytest

import provider.config.file
from common.errors import SettingsError
from provider.config.reading import Configuration, read_configuration


def stand_alone(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Hide the environment and the files of whoever runs the tests."""
    for name in os.environ:
        if name.startswith("GHUB_"):
            monkeypatch.delenv(name)
    home = folder / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setattr(provider.config.file, "SYSTEM_FILE", folder / "etc/ghubai/provider.yaml")


def read(file: Path, text: str, given: dict[tuple[str, ...], object] | None = None) -> Configuration:
    file.write_text(text)
    return read_configuration(file, given)


def refused(file: Path, text: str) -> list[str]:
    """The mistakes, each without the file's name, which must stand before it."""
    with pytest.raises(SettingsError) as refusal:
        read(file, text)
    lines = str(refusal.value).splitlines()
    assert all(line.startswith(f"{file}:") for line in lines), lines
    return [line.removeprefix(f"{file}:") for line in lines]
