"""`ghub models` and `ghub queues`: what the grid serves, and what waits."""

import typer

from ghub.admin.options import HubUrl, Json, TokenFile

grid_app = typer.Typer()


@grid_app.command()
def models(*, hub_url: HubUrl = None, admin_token_file: TokenFile = None, as_json: Json = False) -> None:
    """Show the models of the grid: how many nodes serve each, what waits and what runs."""
    from ghub.admin.hub import AdminHub  # noqa: PLC0415 - `ghub --help` is quick
    from ghub.admin.tables import tell  # noqa: PLC0415

    found = AdminHub.open(hub_url, admin_token_file).get("registry")["models"]
    columns = {
        "MODEL": lambda model: model["id"],
        "NODES": lambda model: model["nodes"],
        "IDLE": lambda model: model["idle"],
        "WAITING": lambda model: model["waiting"],
        "RUNNING": lambda model: model["running"],
    }
    tell({"models": found}, found, columns, as_json=as_json)


@grid_app.command()
def queues(*, hub_url: HubUrl = None, admin_token_file: TokenFile = None, as_json: Json = False) -> None:
    """Show every lane of every model, with what waits and what runs."""
    from ghub.admin.hub import AdminHub  # noqa: PLC0415
    from ghub.admin.tables import tell  # noqa: PLC0415

    told = AdminHub.open(hub_url, admin_token_file).get("queues")
    columns = {
        "MODEL": lambda lane: lane["model"],
        "LANE": lambda lane: lane["lane"],
        "WAITING": lambda lane: lane["waiting"],
        "RUNNING": lambda lane: lane["running"],
    }
    tell(told, told["queues"], columns, as_json=as_json)
