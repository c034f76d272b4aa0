"""`ghub why`: what keeps a request, a node or a model from going on."""

from typing import Annotated

import typer

from ghub.client.completion import complete_reasoned
from ghub.client.hub import AdminHub
from ghub.client.options import HubUrl, Json, TokenFile
from ghub.showing.tables import plain, show_json


def why(
    name: Annotated[
        str, typer.Argument(help="A request's id, a node, a model or an alias.", autocompletion=complete_reasoned)
    ],
    *,
    hub_url: HubUrl = None,
    admin_token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Tell why a request, a node or a model stands as it does, and what would help."""
    told = AdminHub.open(hub_url, admin_token_file).get("why", name)
    if as_json:
        show_json(told)
        return
    typer.secho(plain(told["summary"]), bold=True)
    for reason in told["reasons"]:
        typer.echo(f"  {plain(reason['text'])}  ({plain(reason['code'])})")
        if reason.get("cure"):
            typer.secho(f"    -> {plain(reason['cure'])}", fg="green")
