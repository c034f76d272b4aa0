"""The scripts in docs/ that make pages, as modules: they are no package."""

import importlib.util
from types import ModuleType

from tests.support.processes import PROJECT


def generator_of(page: str) -> ModuleType:
    """The script that makes `docs/<page>.md`."""
    spec = importlib.util.spec_from_file_location(page, PROJECT / "docs" / f"{page}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
