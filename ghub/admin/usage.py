"""`ghub usage`: what each key used."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from ghub.client.completion import complete_keys
from ghub.client.hub import AdminHub, HubUnmoved
from ghub.client.options import HubUrl, Json, TokenFile
from ghub.showing.figures import count
from ghub.showing.tables import Column, show, show_json

FIGURES = ("requests", "prompt_tokens", "completion_tokens", "estimated")


def usage(
    *,
    days: Annotated[int, typer.Option(help="How many days back, in UTC.", min=1, max=366)] = 30,
    key: Annotated[
        str | None, typer.Option(help="Only this key, by name or id.", metavar="NAME", autocompletion=complete_keys)
    ] = None,
    by_day: Annotated[bool, typer.Option("--by-day", help="A line for each day, not for the whole time.")] = False,
    hub_url: HubUrl = None,
    admin_token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Show what each key used of which model, and the sum."""
    told = AdminHub.open(hub_url, admin_token_file).get("usage", days=days)
    rows = [row for row in told["usage"] if key is None or key in (row["name"], row["key"])]
    if key is not None and not rows and not _is_key(hub_url, admin_token_file, key):
        raise HubUnmoved(f"there is no key {key!r} (`ghub key list` shows them)")
    if as_json:
        show_json({**told, "usage": rows, "totals": total(rows)})
        return
    if not rows:
        typer.echo(f"nothing was used with {'any key' if key is None else key} in {days} days", err=True)
    columns: dict[str, Column] = {"DAY": lambda row: row.get("day")} if by_day else {}
    columns |= {
        "KEY": lambda row: row.get("name") or row.get("key"),
        "MODEL": lambda row: row.get("model"),
        "REQUESTS": lambda row: count(row["requests"]),
        "PROMPT TOKENS": lambda row: count(row["prompt_tokens"]),
        "COMPLETION TOKENS": lambda row: count(row["completion_tokens"]),
        "ESTIMATED": lambda row: count(row["estimated"]),
    }
    shown = rows if by_day else summed(rows)
    first = next(iter(columns))
    sums = {"DAY": {"day": "all"}, "KEY": {"name": "all"}}[first]
    show([*shown, {**sums, **total(rows)}] if len(shown) > 1 else shown, columns)


def total(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The sums of all figures."""
    listed = [*rows]
    return {name: sum(row[name] for row in listed) for name in FIGURES}


def summed(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each key and model, whatever the day; who used most stands first."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["key"], row["model"]), []).append(row)
    sums = [
        {"key": key, "name": one[0].get("name"), "model": model, **total(one)} for (key, model), one in found.items()
    ]
    return sorted(sums, key=lambda row: -(row["prompt_tokens"] + row["completion_tokens"]))


def _is_key(hub_url: str | None, token_file: TokenFile, wanted: str) -> bool:
    keys = AdminHub.open(hub_url, token_file).get("keys")["keys"]
    return any(wanted in (key["name"], key["id"]) for key in keys)
