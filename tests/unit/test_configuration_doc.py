"""docs/configuration.md and deploy/provider.example.yaml are made from the settings and must not lag behind."""

import os
import re
from pathlib import Path
from types import ModuleType

import pytest

from provider.config.layout import LAYOUT, field_at
from provider.config.reading import read_configuration
from provider.settings import ProviderSettings
from tests.support.generators import generator_of
from tests.support.processes import PROJECT

EXAMPLE = PROJECT / "deploy/provider.example.yaml"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    return generator_of("configuration")


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("GHUB_"):
            monkeypatch.delenv(name)


def test_the_page_is_what_the_settings_say(generator: ModuleType) -> None:
    assert (PROJECT / "docs/configuration.md").read_text() == generator.page()
    assert all(not line.rstrip().endswith("| |") for line in generator.page().splitlines() if line.startswith("| `"))


def test_the_example_is_what_the_settings_say(generator: ModuleType) -> None:
    assert EXAMPLE.read_text() == generator.example()


def test_the_example_as_it_stands_changes_nothing() -> None:
    assert read_configuration(EXAMPLE).settings == ProviderSettings()


def test_the_example_holds_every_setting_with_its_default(tmp_path: Path) -> None:
    file = tmp_path / "provider.yaml"
    file.write_text(re.sub(r"^  #(?=\w)", "  ", EXAMPLE.read_text(), flags=re.MULTILINE))
    configuration = read_configuration(file)
    assert set(configuration.places) == set(LAYOUT.values())
    for path in LAYOUT.values():
        field, value = field_at(path), configuration.settings
        for name in path:
            value = getattr(value, name)
        assert (value == field.default) is (not field.examples), path
