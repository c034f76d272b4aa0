"""Our Markdown as a parser sees it: headings, links, code."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

_READER = MarkdownIt("commonmark").enable("table")


def tokens(file: Path) -> list[Token]:
    return _READER.parse(file.read_text())


def inline(file: Path) -> Iterator[Token]:
    """All that stands within lines."""
    for token in tokens(file):
        yield from token.children or ()


def links(file: Path) -> list[str]:
    """Where its links and pictures lead."""
    found = [token.attrGet("href") or token.attrGet("src") for token in inline(file)]
    return [str(target) for target in found if target]


def code_spans(file: Path) -> list[str]:
    return [token.content for token in inline(file) if token.type == "code_inline"]


def anchors(file: Path) -> set[str]:
    """The anchors that code hosts give to its headings."""
    seen: Counter[str] = Counter()
    names = set()
    for opening, heading in itertools.pairwise(tokens(file)):
        if opening.type == "heading_open":
            text = "".join(child.content for child in heading.children or ())
            name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            names.add(f"{name}-{seen[name]}" if seen[name] else name)
            seen[name] += 1
    return names
