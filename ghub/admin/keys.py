"""`ghub key`: clients' API keys."""

from typing import Annotated, Any

import typer

from common.types import AskedLane
from ghub.client.completion import complete_keys
from ghub.client.hub import AdminHub
from ghub.client.options import HubUrl, Json, TokenFile
from ghub.showing.tables import confirm, listed, show_json, tell, when

key_app = typer.Typer(help="API keys of clients.", no_args_is_help=True)

Wanted = Annotated[str, typer.Argument(help="The key's name or id.", metavar="KEY", autocompletion=complete_keys)]


@key_app.command()
def create(
    *,
    name: Annotated[str, typer.Option(help="What to call it.")],
    models: Annotated[
        str | None, typer.Option(help="Models it may use, or patterns, with commas; by default all.", metavar="M,M")
    ] = None,
    rpm: Annotated[int | None, typer.Option(help="Requests a minute.", min=1)] = None,
    tpm: Annotated[int | None, typer.Option(help="Tokens a minute.", min=1)] = None,
    concurrency: Annotated[int | None, typer.Option(help="Requests at once; more wait for their turn.", min=1)] = None,
    expires: Annotated[
        str | None, typer.Option(help="90m, 12h, 30d, 4w, a day, or an ISO time; by default never.", metavar="WHEN")
    ] = None,
    lane: Annotated[AskedLane, typer.Option(help="The most urgent lane it may use.")] = AskedLane.INTERACTIVE,
    hub_url: HubUrl = None,
    admin_token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it. It is told this once."""
    limits = {"rpm": rpm, "tpm": tpm, "concurrency": concurrency, "expires": expires}
    wish: dict[str, Any] = {"name": name, "lane": lane.value}
    wish |= {field: value for field, value in limits.items() if value is not None}
    if models is not None:
        wish["models"] = [model.strip() for model in models.split(",") if model.strip()]
    made = AdminHub.open(hub_url, admin_token_file).post("keys", body=wish)
    if as_json:
        show_json(made)
        return
    typer.echo(f"the key of {name}, told this once:", err=True)
    typer.echo(made["key"])


@key_app.command("list")
def list_keys(*, hub_url: HubUrl = None, admin_token_file: TokenFile = None, as_json: Json = False) -> None:
    """Show all keys; their secrets nobody knows."""
    told = AdminHub.open(hub_url, admin_token_file).get("keys")
    columns = {
        "NAME": lambda key: key["name"],
        "ID": lambda key: key["id"],
        "MODELS": lambda key: listed(key["models"]) or "all",
        "RPM": lambda key: key["rpm"],
        "TPM": lambda key: key["tpm"],
        "AT ONCE": lambda key: key["concurrency"],
        "LANE": lambda key: key["lane"],
        "CREATED": lambda key: when(key["created_at"]),
        "EXPIRES": lambda key: when(key["expires_at"]),
    }
    tell(told, told["keys"], columns, as_json=as_json)


@key_app.command()
def revoke(
    wanted: Wanted, *, hub_url: HubUrl = None, admin_token_file: TokenFile = None, as_json: Json = False
) -> None:
    """Let a key in no more."""
    told = AdminHub.open(hub_url, admin_token_file).delete("keys", wanted)
    confirm(told, f"the key {told['name']} is let in no more", as_json=as_json)


@key_app.command()
def usage(
    wanted: Wanted,
    *,
    days: Annotated[int, typer.Option(help="How many days back, in UTC.", min=1, max=366)] = 30,
    hub_url: HubUrl = None,
    admin_token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Show what a key used, by day and model."""
    told = AdminHub.open(hub_url, admin_token_file).get("keys", wanted, "usage", days=days)
    rows = [{"day": day["day"], **model} for day in told["days"] for model in day["models"]]
    columns = {
        "DAY": lambda row: row["day"],
        "MODEL": lambda row: row["model"],
        "REQUESTS": lambda row: row["requests"],
        "PROMPT TOKENS": lambda row: row["prompt_tokens"],
        "COMPLETION TOKENS": lambda row: row["completion_tokens"],
        "ESTIMATED": lambda row: row["estimated"],
    }
    tell(told, rows, columns, as_json=as_json)
