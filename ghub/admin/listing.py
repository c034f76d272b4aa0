"""A table or JSON of what a hub answers: once, or again and again."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ghub.client.hub import HubUnmoved
from ghub.showing.tables import Column, as_json_text, show, show_json, table_of


@dataclass(frozen=True, slots=True)
class Listing:
    """What a hub said at one moment."""

    answer: Mapping[str, Any]
    """As it came."""
    rows: Sequence[Mapping[str, Any]]
    columns: Mapping[str, Column]
    less: Sequence[str] = ()
    """Columns that are left out where a terminal has no room for all, in this order."""
    note: str = ""
    """What is to be said beside it."""


Look = Callable[[], Listing]


def present(look: Look, *, as_json: bool, every_s: float | None) -> None:
    """Print what there is; with a number of seconds again and again, until Ctrl-C, which is no failure.

    On a terminal the table is painted over; into a pipe a fresh one goes each time, or a line of JSON.
    """
    if every_s is None:
        _tell_once(look(), as_json=as_json)
        return
    try:
        if sys.stdout.isatty() and not as_json:
            _paint(look, every_s)
        else:
            _print_again(look, every_s, as_json=as_json)
    except KeyboardInterrupt:
        return


def _tell_once(listing: Listing, *, as_json: bool) -> None:
    if as_json:
        show_json(listing.answer)
    else:
        show(listing.rows, listing.columns, listing.less)
    if listing.note:
        typer.echo(listing.note, err=True)


def _print_again(look: Look, every_s: float, *, as_json: bool) -> None:
    listing = look()  # what fails at once is a mistake; later it is something that passes
    while True:
        if as_json:
            typer.echo(as_json_text(listing.answer))
        else:
            show(listing.rows, listing.columns, listing.less)
            typer.echo()
        sys.stdout.flush()
        while True:
            time.sleep(every_s)
            try:
                listing = look()
                break
            except HubUnmoved as exc:
                typer.echo(f"ghub: {exc}", err=True)


def _paint(look: Look, every_s: float) -> None:
    console = Console(highlight=False)
    last = look()
    trouble = ""
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(_painted(last, trouble, console.width), refresh=True)
            time.sleep(every_s)
            try:
                last, trouble = look(), ""
            except HubUnmoved as exc:
                trouble = str(exc)


def _painted(listing: Listing, trouble: str, width: int) -> RenderableType:
    table = table_of(listing.rows, listing.columns, listing.less, width)
    return Group(table, *(Text(line, style="red" if line == trouble else "dim") for line in _lines(listing, trouble)))


def _lines(listing: Listing, trouble: str) -> list[str]:
    return [line for line in (listing.note, trouble) if line]
