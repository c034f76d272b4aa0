"""docs/architecture.md names what there is: every path in it leads somewhere, and every room of the code is in it."""

import re
from pathlib import Path

import pytest

from tests.support.processes import PROJECT

PAGE = (PROJECT / "docs/architecture.md").read_text()
PARTS = ("common", "hub", "provider", "ghub")


def test_every_path_leads_somewhere() -> None:
    named = set(re.findall(r"`((?:common|hub|provider|ghub|bench|tests|docs)/[\w/.]+)`", PAGE))
    assert len(named) > 30
    assert [path for path in sorted(named) if not (PROJECT / path).exists()] == []


@pytest.mark.parametrize("part", PARTS)
def test_every_room_is_named(part: str) -> None:
    about = re.split(r"\n(?=\*\*|## )", PAGE.split("## The rooms")[1].split("## The journey")[0])
    (rooms,) = [text for text in about if text.startswith(f"**{part}**")]
    folders = {path.parent.name for path in (PROJECT / part).glob("*/__init__.py")} | _without_python(PROJECT / part)
    assert [folder for folder in sorted(folders) if f"`{folder}`" not in rooms] == []


def _without_python(part: Path) -> set[str]:
    return {path.name for path in part.iterdir() if path.name in ("lua", "web")}
