"""`ghub nodes`: the machines of the grid."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from common.reasons import short_words_of
from ghub.admin.listing import Listing, present
from ghub.client.completion import complete_nodes
from ghub.client.hub import AdminHub
from ghub.client.options import HubUrl, Json, TokenFile, Watch, refuse_options_before
from ghub.showing.figures import gpu_in_words
from ghub.showing.tables import confirm, listed

nodes_app = typer.Typer(help="Show the nodes of the grid, and give orders to them.", invoke_without_command=True)

Node = Annotated[str, typer.Argument(help="The node's name.", autocompletion=complete_nodes)]


@nodes_app.callback()
def list_nodes(
    context: typer.Context,
    *,
    watch: Watch = None,
    hub_url: HubUrl = None,
    admin_token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Show the nodes of the grid, and give orders to them."""
    if context.invoked_subcommand is not None:
        refuse_options_before(context.invoked_subcommand, context)
        return

    hub = AdminHub.open(hub_url, admin_token_file)
    columns = {
        "NODE": lambda node: node["node"],
        "STATE": lambda node: node["state"],
        "RUNNING": lambda node: f"{len(node['requests'])} of {node['slots']}",
        "WHY": lambda node: listed(map(short_words_of, node["reasons"])),
        "ENGINE": lambda node: node["engine"].get("kind"),
        "GPUS": lambda node: listed(map(gpu_in_words, node["gpus"])),
        "MODELS": lambda node: listed(_marked(node)),
    }

    def look() -> Listing:
        told = hub.get("nodes")
        return Listing(told, told["nodes"], columns, less=("ENGINE",))

    present(look, as_json=as_json, every_s=watch)


def _marked(node: Mapping[str, Any]) -> Iterator[str]:
    """A node's models, with a star where they are in memory."""
    for model in node["models"]:
        yield f"{model}*" if model in node.get("loaded", ()) else model


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
    told = AdminHub.open(hub_url, admin_token_file).delete("nodes", node)
    confirm(told, f"{node} is cut off", as_json=as_json)


def _order(node: str, word: str, hub_url: str | None, token_file: TokenFile, *, as_json: bool) -> None:
    told = AdminHub.open(hub_url, token_file).post("nodes", node, word)
    reasons = f" ({listed(told['reasons'])})" if told["reasons"] else ""
    confirm(told, f"{word} is ordered; {node} was {told['state']}{reasons}", as_json=as_json)
