"""`ghub nodes`: the machines of the grid."""

from typing import Annotated

import typer

from ghub.admin.options import HubUrl, Json, TokenFile
from ghub.errors import StartRefused

nodes_app = typer.Typer(help="Show the nodes of the grid, and give orders to them.", invoke_without_command=True)

Node = Annotated[str, typer.Argument(help="The node's name.")]


@nodes_app.callback()
def list_nodes(
    context: typer.Context, *, hub_url: HubUrl = None, admin_token_file: TokenFile = None, as_json: Json = False
) -> None:
    """Show the nodes of the grid, and give orders to them."""
    if context.invoked_subcommand is not None:
        if hub_url is not None or admin_token_file is not None or as_json:
            raise StartRefused(f"options stand behind {context.invoked_subcommand!r}")
        return
    from ghub.admin.hub import AdminHub  # noqa: PLC0415 - `ghub --help` is quick
    from ghub.admin.tables import listed, tell  # noqa: PLC0415

    told = AdminHub.open(hub_url, admin_token_file).get("nodes")
    columns = {
        "NODE": lambda node: node["node"],
        "STATE": lambda node: node["state"],
        "REASONS": lambda node: listed(node["reasons"]),
        "RUNNING": lambda node: f"{len(node['requests'])} of {node['slots']}",
        "ENGINE": lambda node: node["engine"].get("kind"),
        "GPUS": lambda node: listed(gpu.get("name") for gpu in node["gpus"]),
        "MODELS": lambda node: listed(node["models"]),
    }
    tell(told, told["nodes"], columns, as_json=as_json)


@nodes_app.command()
def drain(node: Node, *, hub_url: HubUrl = None, admin_token_file: TokenFile = None, as_json: Json = False) -> None:
    """Let a node finish what runs and take nothing new."""
    _order(node, "drain", hub_url, admin_token_file, as_json=as_json)


@nodes_app.command()
def pause(node: Node, *, hub_url: HubUrl = None, admin_token_file: TokenFile = None, as_json: Json = False) -> None:
    """Let a node take nothing new."""
    _order(node, "pause", hub_url, admin_token_file, as_json=as_json)


@nodes_app.command()
def resume(node: Node, *, hub_url: HubUrl = None, admin_token_file: TokenFile = None, as_json: Json = False) -> None:
    """Take back what drain and pause ordered; what the machine's owner ordered stays."""
    _order(node, "resume", hub_url, admin_token_file, as_json=as_json)


@nodes_app.command("cut-off")
def cut_off(node: Node, *, hub_url: HubUrl = None, admin_token_file: TokenFile = None, as_json: Json = False) -> None:
    """Take a node's access away at once; its jobs run elsewhere. With its token it may come back: revoke that first."""
    from ghub.admin.hub import AdminHub  # noqa: PLC0415
    from ghub.admin.tables import show_json  # noqa: PLC0415

    told = AdminHub.open(hub_url, admin_token_file).delete("nodes", node)
    show_json(told) if as_json else typer.echo(f"{node} is cut off")


def _order(node: str, word: str, hub_url: str | None, token_file: TokenFile, *, as_json: bool) -> None:
    from ghub.admin.hub import AdminHub  # noqa: PLC0415
    from ghub.admin.tables import listed, plain, show_json  # noqa: PLC0415

    told = AdminHub.open(hub_url, token_file).post("nodes", node, word)
    if as_json:
        show_json(told)
        return
    reasons = f" ({listed(told['reasons'])})" if told["reasons"] else ""
    typer.echo(f"{word} is ordered; {plain(node)} was {plain(told['state'] + reasons)}")
