"""How answers of a hub look on a terminal."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ghub.showing.printable import printable
from ghub.showing.standard_streams import writes_unicode

Column = Callable[[Mapping[str, Any]], object]
"""What of a row stands in it."""
GAP = 2
WIDE = 300
"""Where nobody looks on, lines are not broken: another program reads them."""


def tell(
    answer: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Column], *, as_json: bool
) -> None:
    """Print what a hub answered, as it came or as a table of its rows."""
    show_json(answer) if as_json else show(rows, columns)


def confirm(answer: Mapping[str, Any], said: str, *, as_json: bool) -> None:
    """Print what a hub answered to an order, as it came or in words, which are made harmless."""
    show_json(answer) if as_json else typer.echo(printable(said))


def show(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Column], less: Sequence[str] = ()) -> None:
    """Print a table; its heads are the columns' names."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDE)
    console.print(table_of(rows, columns, less, console.width))


def table_of(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Column], less: Sequence[str] = (), width: int = WIDE
) -> Table:
    """A table of rows; its heads are the columns' names.

    Args:
        rows: what hubs told.
        columns: what of a row stands in each.
        less: columns that are left out where there is no room for all, in this order.
        width: how much room there is.
    """
    cells = {name: [plain(cell(row)) for row in rows] for name, cell in columns.items()}
    needs = {name: max(map(cell_len, [name, *column])) + GAP for name, column in cells.items()}
    for name in less:
        if sum(needs.values()) - GAP > width:
            del cells[name], needs[name]
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for name in cells:
        table.add_column(name, overflow="fold")
    for line in zip(*cells.values(), strict=True):
        table.add_row(*map(Text, line))
    return table


def show_json(answer: Mapping[str, Any]) -> None:
    """Print an answer as it came."""
    typer.echo(as_json_text(answer, indent=2))


def as_json_text(answer: Mapping[str, Any], indent: int | None = None) -> str:
    """An answer as JSON, with escapes for what cannot be written as it is."""
    return json.dumps(answer, indent=indent, ensure_ascii=not writes_unicode())


def plain(value: object) -> str:
    """A value as text that cannot move a terminal's cursor: names come from other people's machines."""
    if value is None or value == "":
        return "-"
    return printable(str(value))


def listed(values: Iterable[object]) -> str:
    """Several values as one."""
    return ", ".join(map(str, values))


def when(unix_ms: int | None) -> str | None:
    """A moment in UTC, to the minute."""
    return None if unix_ms is None else f"{datetime.fromtimestamp(unix_ms / 1000, UTC):%Y-%m-%d %H:%M}"
