"""`ghub requests`: what clients wait for."""

from typing import Annotated

import typer

from ghub.admin.options import HubUrl, Json, TokenFile
from ghub.errors import StartRefused

requests_app = typer.Typer(help="Show the open requests of the grid, and end one.", invoke_without_command=True)


@requests_app.callback()
def list_requests(
    context: typer.Context,
    *,
    status: Annotated[str | None, typer.Option(help="Only queued, claimed or streaming ones.")] = None,
    model: Annotated[str | None, typer.Option(help="Only those for this model.")] = None,
    limit: Annotated[int, typer.Option(help="Most to show.", min=1, max=1000)] = 100,
    hub_url: HubUrl = None,
    admin_token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Show the open requests of the grid, and end one."""
    if context.invoked_subcommand is not None:
        if hub_url is not None or admin_token_file is not None or as_json:
            raise StartRefused(f"options stand behind {context.invoked_subcommand!r}")
        return
    from ghub.admin.hub import AdminHub  # noqa: PLC0415 - `ghub --help` is quick
    from ghub.admin.tables import tell, when  # noqa: PLC0415

    hub = AdminHub.open(hub_url, admin_token_file)
    told = hub.get("requests", status=status, model=model, limit=limit)
    columns = {
        "REQUEST": lambda request: request["id"],
        "STATUS": lambda request: request["status"],
        "MODEL": lambda request: request["model"],
        "LANE": lambda request: request["lane"],
        "NODE": lambda request: request["node"],
        "ATTEMPT": lambda request: request["attempt"],
        "KEY": lambda request: request["key"],
        "SINCE": lambda request: when(request["queued_at"]),
    }
    tell(told, told["requests"], columns, as_json=as_json)
    if told["has_more"]:
        typer.echo(f"and more than these {limit} (--limit)", err=True)


@requests_app.command()
def cancel(
    request: Annotated[str, typer.Argument(help="The request's id.")],
    *,
    hub_url: HubUrl = None,
    admin_token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """End a request, whichever hub holds it; its client is told."""
    from ghub.admin.hub import AdminHub  # noqa: PLC0415
    from ghub.admin.tables import show_json  # noqa: PLC0415

    told = AdminHub.open(hub_url, admin_token_file).delete("requests", request)
    show_json(told) if as_json else typer.echo(f"{request} is being cancelled")
