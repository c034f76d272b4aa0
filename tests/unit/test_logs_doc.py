"""docs/logs.md lists every event word of the sources with its fields, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.processes import PROJECT

PAGE = PROJECT / "docs/logs.md"
LEVELS = frozenset({"debug", "info", "warning", "error", "exception", "critical", "log"})
SOURCES = [path for package in ("common", "hub", "provider", "ghub") for path in (PROJECT / package).rglob("*.py")]
OF_LIBRARIES = {"library": {"logger", "message"}}
"""What is not said by `log.…`, but put on others' records."""


def calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=level)) if level in LEVELS:
                yield node


def words_in(node: ast.expr) -> list[str]:
    if isinstance(node, ast.IfExp):
        return words_in(node.body) + words_in(node.orelse)
    assert isinstance(node, ast.Constant), f"no event word: {ast.unparse(node)}"
    assert isinstance(node.value, str)
    return [node.value]


def in_sources() -> dict[str, set[str]]:
    """The fields of each event word."""
    found: dict[str, set[str]] = {word: {*fields} for word, fields in OF_LIBRARIES.items()}
    for path in SOURCES:
        for call in calls(path):
            assert isinstance(call.func, ast.Attribute)
            first = call.args[1] if call.func.attr == "log" else call.args[0]
            fields = {one.arg for one in call.keywords if one.arg is not None} - {"exc_info"}
            for word in words_in(first):
                found.setdefault(word, set()).update(fields)
    return found


def in_page() -> dict[str, set[str]]:
    rows = [
        line.split(" | ") for line in PAGE.read_text().splitlines() if re.match(r"\| `[a-z_]+` \| .* \| .* \| ", line)
    ]
    return {row[0].strip("| `"): {*re.findall(r"`(\w+)`", row[3])} for row in rows}


def test_every_event_stands_in_the_page_with_its_fields_and_the_other_way_round() -> None:
    assert in_page() == in_sources()
    assert len(in_page()) > 90


def test_every_event_says_what_it_means() -> None:
    for line in PAGE.read_text().splitlines():
        if re.match(r"\| `[a-z_]+` \| (all|hub|provider|workers)", line):
            assert len(line.split(" | ")[4]) >= 15, line


def test_an_event_is_one_word_and_its_request_is_called_request() -> None:
    for word, fields in in_sources().items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", word), word
        assert not {"request_id", "rid", "job", "job_id"} & fields, word
