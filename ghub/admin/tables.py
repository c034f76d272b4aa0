"""How answers of a hub look on a terminal."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

Column = Callable[[Mapping[str, Any]], object]
"""What of a row stands in it."""
WIDE = 300
"""Where nobody looks on, lines are not broken: another program reads them."""


def tell(
    answer: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Column], *, as_json: bool
) -> None:
    """Print what a hub answered, as it came or as a table of its rows."""
    show_json(answer) if as_json else show(rows, columns)


def show(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Column]) -> None:
    """Print a table; its heads are the columns' names."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDE)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(cell(row))) for cell in columns.values()))
    console.print(table)


def show_json(answer: Mapping[str, Any]) -> None:
    """Print an answer as it came."""
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def plain(value: object) -> str:
    """A value as text that cannot move a terminal's cursor: names come from other people's machines."""
    if value is None or value == "":
        return "-"
    return "".join(char if char.isprintable() else "?" for char in str(value))


def listed(values: Iterable[object]) -> str:
    """Several values as one."""
    return ", ".join(map(str, values))


def when(unix_ms: int | None) -> str | None:
    """A moment in UTC, to the minute."""
    return None if unix_ms is None else f"{datetime.fromtimestamp(unix_ms / 1000, UTC):%Y-%m-%d %H:%M}"
