"""docs/cli.md names every command and every option, its examples exist, and the list of commands is true and quick."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from ghub.cli import COMMANDS, Commands, app
from tests.support.processes import PROJECT

PAGE = (PROJECT / "docs" / "cli.md").read_text()


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words, groups included."""
    if path:
        yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


GHUB = typer.main.get_command(app)
assert isinstance(GHUB, Commands)
TREE = {path: one for name in COMMANDS for path, one in commands(GHUB.imported(name), (name,))}


@pytest.mark.parametrize("path", TREE, ids=" ".join)
def test_every_command_and_option_is_on_the_page(path: tuple[str, ...]) -> None:
    assert re.search(rf"\b{path[0]}\b.*\b{path[-1]}\b" if path[1:] else rf"ghub {path[0]}\b", PAGE)
    options = [name for one in TREE[path].params for name in one.opts if name.startswith("--") and name != "--help"]
    assert [name for name in options if not re.search(rf"{name}\b", PAGE)] == []


def test_every_example_is_a_command_that_exists() -> None:
    typed = [line[4:] for line in PAGE.splitlines() if line.startswith("    ")]
    assert len(typed) > 15
    for line in typed:
        words = shlex.split(line.replace("$(", " ").replace(")", " ").replace("<Tab>", ""), comments=True)
        first = words[words.index("ghub") + 1 :]
        if first[0].startswith("--"):
            continue
        assert (first[0],) in TREE, line
        for option in (word for word in words if word.startswith("--")):
            assert any(option in one.opts for path in TREE if path[0] == first[0] for one in TREE[path].params), line


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_of_a_command_what_it_says_itself(name: str) -> None:
    assert COMMANDS[name].help == TREE[(name,)].get_short_help_str(limit=1000)


def test_the_list_of_commands_imports_none_of_them() -> None:
    look = "import sys, ghub.cli; print(*(name.partition('.')[0] for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", look], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert {"ghub", "typer"} <= {*done.stdout.split()}
    assert not {"pydantic", "httpx2", "rich", "structlog", "hub", "provider"} & {*done.stdout.split()}
