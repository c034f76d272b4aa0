"""docs/configuration.md is made from the settings and must not lag behind."""

import importlib.util

from tests.support.processes import PROJECT


def test_the_page_is_what_the_settings_say() -> None:
    spec = importlib.util.spec_from_file_location("configuration", PROJECT / "docs/configuration.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    assert (PROJECT / "docs/configuration.md").read_text() == generator.page()
    assert all(not line.rstrip().endswith("| |") for line in generator.page().splitlines() if line.startswith("| `"))
