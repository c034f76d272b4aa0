"""YAML of two levels, sections and keys, read strictly: every key with its line, and all that is wrong at once.

What YAML 1.1 does behind one's back is left out: `on`, `yes` and `no` are words, `22:00` is no number of minutes, `007`
is no octal number, a date is no date, and a key that stands twice is a mistake. No message quotes a value.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of one section."""

    section: str
    name: str
    """Empty if the section has no keys."""
    line: int
    value: object
    """None: there is none; where a value stands in place of the section's keys, its kind in words."""

    @property
    def key(self) -> str:
        """As people write it: `gate.threshold_pct`."""
        return f"{self.section}.{self.name}" if self.name else self.section


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with the form of a file."""

    line: int
    text: str


class _PlainLoader(yaml.SafeLoader):
    """SafeLoader that takes a plain word for what it looks like to people."""


_PlainLoader.yaml_implicit_resolvers = {}  # its own: else what is added below would be added to a copy of SafeLoader's

for _tag, _pattern, _first in (
    ("bool", r"true|false|True|False|TRUE|FALSE", "tfTF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("merge", r"<<", "<"),
):
    _PlainLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_PlainLoader.yaml_implicit_resolvers[""] = _PlainLoader.yaml_implicit_resolvers["\0"]


def read_yaml(text: str) -> tuple[list[Entry], list[Mistake]]:
    """Read sections of keys.

    Args:
        text: of the whole file.

    Returns:
        Every key, and every section without keys, and what cannot be read. The value of a key without one is None.
    """
    try:
        loader = _PlainLoader(text)
        root = loader.get_single_node()
    except yaml.YAMLError as exc:
        return [], [_mistake(exc, text)]
    except RecursionError:
        return [], [Mistake(1, "not YAML: lists or keys stand in one another too deeply")]
    found = list(_walk(loader, root)) if root is not None else []
    return [one for one in found if isinstance(one, Entry)], [one for one in found if isinstance(one, Mistake)]


def _walk(loader: _PlainLoader, root: yaml.Node) -> Iterator[Entry | Mistake]:
    if _is_nothing(root):
        return
    if not isinstance(root, yaml.MappingNode):
        yield Mistake(_line(root), f"expected sections such as 'engine:', found {_kind(root)}")
        return
    for section in _pairs(root, ""):
        if isinstance(section, Mistake):
            yield section
        elif isinstance(section.node, yaml.MappingNode) and section.node.value:
            for pair in _pairs(section.node, f"{section.name}."):
                yield pair if isinstance(pair, Mistake) else _entry(loader, section.name, pair)
        else:
            yield Entry(section.name, "", section.line, _kind(section.node))


@dataclass(frozen=True, slots=True)
class _Pair:
    name: str
    line: int
    node: yaml.Node


def _pairs(mapping: yaml.MappingNode, above: str) -> Iterator[_Pair | Mistake]:
    """Keys with their values; in place of one that cannot be used, why."""
    lines: dict[str, int] = {}
    for key_node, node in mapping.value:
        line = _line(key_node)
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == _MERGE:
            yield Mistake(line, f"{above}?: expected a name, found {_kind(key_node)}")
            continue
        name = str(key_node.value)
        if name in lines:
            yield Mistake(line, f"{above}{name}: it stands in line {lines[name]} already")
            continue
        lines[name] = line
        yield _Pair(name, line, node)


def _entry(loader: _PlainLoader, section: str, pair: _Pair) -> Entry | Mistake:
    try:
        return Entry(section, pair.name, pair.line, loader.construct_object(pair.node, deep=True))
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        # What PyYAML raises for a tag (`!!int`, `!!timestamp`) whose value is nothing of the kind.
        why = "it is of no kind that is known here; put it in quotes if it is text"
        return Mistake(pair.line, f"{section}.{pair.name}: {why}")


def _is_nothing(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL


def _kind(node: yaml.Node) -> str | None:
    if _is_nothing(node):
        return None
    if isinstance(node, yaml.MappingNode):
        return "keys" if node.value else None
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _mistake(error: yaml.YAMLError, text: str) -> Mistake:
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - before.rfind("\n")
        return Mistake(line, f"not YAML (column {column}): a character that may not stand in a file of text")
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return Mistake(1, "not YAML")
    line, column = error.problem_mark.line + 1, error.problem_mark.column + 1
    return Mistake(line, f"not YAML (column {column}): {_why(error)}")


def _why(error: yaml.MarkedYAMLError) -> str:
    """What is wrong, without a word of what is written there: it may be a secret."""
    if isinstance(error, yaml.composer.ComposerError):
        if (error.context or "").startswith("expected a single document"):
            return "a second document; there may be one"
        return "a value that begins with * or & must stand in quotes"
    problem = error.problem or "it makes no sense"
    if r"'\t'" in problem:
        return "a tab; use spaces"
    return re.sub(r"'[^'<\s,]{3,}'", "'…'", problem)
