"""`ghub token`: tokens that let machines join as providers."""

from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from ghub.admin.options import HubUrl, Json, TokenFile

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
    from ghub.admin.hub import AdminHub  # noqa: PLC0415 - `ghub --help` is quick
    from ghub.admin.tables import plain, show_json  # noqa: PLC0415

    made = AdminHub.open(hub_url, admin_token_file).post("tokens", body={"name": name})
    notes = _for_other_machines(made)
    if as_json:
        show_json(made)
    else:
        typer.echo("on the next machine (the token is told this once):", err=True)
        typer.echo(plain(made["join"]))
        typer.echo("or, so that nobody there finds the token in the list of processes:", err=True)
        typer.echo(plain(made["join_env"]), err=True)
    for note in notes:
        typer.echo(note, err=True)


@token_app.command("list")
def list_tokens(*, hub_url: HubUrl = None, admin_token_file: TokenFile = None, as_json: Json = False) -> None:
    """Show all tokens and the nodes they let in; their secrets nobody knows."""
    from ghub.admin.hub import AdminHub  # noqa: PLC0415
    from ghub.admin.tables import listed, tell, when  # noqa: PLC0415

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
    wanted: Annotated[str, typer.Argument(help="The token's name or id.", metavar="TOKEN")],
    *,
    hub_url: HubUrl = None,
    admin_token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Let nobody in with a token any more, and cut off the nodes that it let in."""
    from ghub.admin.hub import AdminHub  # noqa: PLC0415
    from ghub.admin.tables import listed, plain, show_json  # noqa: PLC0415

    told = AdminHub.open(hub_url, admin_token_file).delete("tokens", wanted)
    if as_json:
        show_json(told)
        return
    cut = f"; cut off: {plain(listed(told['nodes']))}" if told["nodes"] else ""
    typer.echo(f"the token {told['name']} lets nobody in any more{cut}")


def _for_other_machines(made: dict[str, Any]) -> list[str]:
    """Put an address that others can use into what a hub on this machine said of itself; what was assumed."""
    from common.settings import is_loopback  # noqa: PLC0415
    from ghub.admin.lan import lan_address, with_host  # noqa: PLC0415

    told = made["hub_url"]
    if not is_loopback(urlsplit(told).hostname or ""):
        return []
    address = lan_address()
    if address is None:
        return [f"note: other machines cannot reach {told}: put there what they call this one"]
    assumed = with_host(told, address)
    for field in ("hub_url", "join", "join_env"):
        made[field] = made[field].replace(told, assumed)
    return [
        f"note: the hub was asked at {told}, which other machines cannot reach; {address} is assumed to be what they",
        "call this one, and the hub to listen there (--host 0.0.0.0). GHUB_HUB_PUBLIC_URL on the hub settles it.",
    ]
