"""`ghub token`: tokens that let machines join as providers."""

from typing import Annotated

import typer

from ghub.client.completion import complete_tokens
from ghub.client.hub import AdminHub
from ghub.client.options import HubUrl, Json, TokenFile
from ghub.showing.tables import confirm, listed, plain, show_json, tell, when

OPENING = "start the hub with --host 0.0.0.0, or tell it by GHUB_HUB_PUBLIC_URL what they call it"

token_app = typer.Typer(help="Tokens of providers.", no_args_is_help=True)


@token_app.command()
def create(
    name: Annotated[str, typer.Argument(help="What to call it, e.g. after the machine or its owner.")],
    *,
    hub_url: HubUrl = None,
    admin_token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Make a token and print the line that starts a provider with it on another machine. It is told this once."""
    made = AdminHub.open(hub_url, admin_token_file).post("tokens", body={"name": name})
    if as_json:
        show_json(made)
    else:
        typer.echo("on the next machine (the token is told this once):", err=True)
        typer.echo(plain(made["join"]))
        typer.echo("or, so that nobody there finds the token in the list of processes:", err=True)
        typer.echo(plain(made["join_env"]), err=True)
    if not made["is_reachable"]:
        typer.echo(f"note: other machines cannot reach {plain(made['hub_url'])}: {OPENING}", err=True)


@token_app.command("list")
def list_tokens(*, hub_url: HubUrl = None, admin_token_file: TokenFile = None, as_json: Json = False) -> None:
    """Show all tokens and the nodes they let in; their secrets nobody knows."""
    told = AdminHub.open(hub_url, admin_token_file).get("tokens")
    columns = {
        "NAME": lambda token: token["name"],
        "ID": lambda token: token["id"],
        "CREATED": lambda token: when(token["created_at"]),
        "NODES": lambda token: listed(token["nodes"]),
    }
    tell(told, told["tokens"], columns, as_json=as_json)


@token_app.command()
def revoke(
    wanted: Annotated[
        str, typer.Argument(help="The token's name or id.", metavar="TOKEN", autocompletion=complete_tokens)
    ],
    *,
    hub_url: HubUrl = None,
    admin_token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Let nobody in with a token any more, and cut off the nodes that it let in."""
    told = AdminHub.open(hub_url, admin_token_file).delete("tokens", wanted)
    cut = f"; cut off: {listed(told['nodes'])}" if told["nodes"] else ""
    confirm(told, f"the token {told['name']} lets nobody in any more{cut}", as_json=as_json)
