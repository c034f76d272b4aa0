"""The `ghub` command.

Exit codes: 0 it ended as asked; 1 it was started and failed; 2 a wrong option, setting or surrounding, nothing was
started; 130 Ctrl-C before there was anything to stop. Errors are a line each on standard error, never a traceback.
"""

import sys
from importlib.metadata import version as installed_version
from typing import Annotated

import typer

from common.errors import SettingsError
from ghub.client.options import with_watch_seconds
from ghub.errors import EXIT_FAILED, EXIT_REFUSED, CommandError
from ghub.lazy import Later, LazyGroup, not_imported
from ghub.showing.standard_streams import LOST, bear_any_text, give_up_output

COMMANDS = {
    "up": Later("ghub.up.command:up", "Run the whole stack on this machine: broker, hub, provider and engine."),
    "hub": Later("ghub.roles.hub:hub", "Run a hub: the HTTP API, on a broker that runs already."),
    "provider": Later(
        "ghub.roles.provider:provider",
        "Run a provider: it takes jobs from a broker for the engine on this machine.",
    ),
    "pause": Later("ghub.roles.owner:pause", "Let the provider on this machine take no more work; what runs goes on."),
    "resume": Later("ghub.roles.owner:resume", "Let the provider on this machine take work again."),
    "service": Later("ghub.services.command:service_app", "Run the provider as a systemd service."),
    "key": Later("ghub.admin.keys:key_app", "API keys of clients."),
    "token": Later("ghub.admin.tokens:token_app", "Tokens of providers."),
    "nodes": Later("ghub.admin.nodes:nodes_app", "Show the nodes of the grid, and give orders to them."),
    "requests": Later(
        "ghub.admin.requests:requests_app",
        "Show the open requests of the grid, and those that failed for good.",
    ),
    "models": Later(
        "ghub.admin.grid:models",
        "Show the models of the grid: how many nodes serve each, what waits and what runs.",
    ),
    "queues": Later("ghub.admin.grid:queues", "Show every lane of every model, with what waits and what runs."),
    "doctor": Later(
        "ghub.doctor.command:doctor",
        "Look at all that a grid needs, and tell what to do where it is not well.",
    ),
    "top": Later("ghub.top.command:top", "Show the grid live on one screen: GPUs, queues, what runs and how fast."),
    "usage": Later("ghub.admin.usage:usage", "Show what each key used of which model, and the sum."),
    "why": Later(
        "ghub.admin.why:why",
        "Tell why a request, a node or a model stands as it does, and what would help.",
    ),
    "chat": Later("ghub.chat.command:chat", "Talk to a model of the grid."),
    "connect": Later(
        "ghub.connect.command:connect",
        "Run a front of all hubs for the clients on this machine: what a hub began, another one ends.",
    ),
}
"""None is imported before it is run: `ghub --help` is quick."""


class Commands(LazyGroup):
    """The commands of the table."""

    later = COMMANDS


app = typer.Typer(
    cls=Commands,
    name="ghub",
    help="One OpenAI-compatible address over many GPU machines that are only sometimes free.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"ghub {installed_version('ghubai')}")
        raise typer.Exit


@app.callback()
def ghub(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """One OpenAI-compatible address over many GPU machines that are only sometimes free."""


for name, command in COMMANDS.items():
    app.command(name, help=command.help)(not_imported)


def main() -> None:
    """Run the command; what a user can mend becomes one line on standard error and an exit code."""
    bear_any_text()
    try:
        app(args=with_watch_seconds(sys.argv[1:]), prog_name="ghub")
    except SettingsError as exc:
        _end(exc, EXIT_REFUSED)
    except CommandError as exc:
        _end(exc, exc.exit_code)
    except OSError as exc:
        if exc.errno not in LOST:
            raise
        give_up_output()
        _end(exc.strerror or exc, EXIT_FAILED)


def _end(error: Exception | str, exit_code: int) -> None:
    from common.logs import LogFormat, asked_for, configure_logs, say_failed  # noqa: PLC0415 - it takes 0.1 s

    log_format = asked_for()
    if log_format is LogFormat.JSON:
        configure_logs(log_format, "INFO")
    if sys.stderr is not None:
        say_failed("ghub", str(error), log_format)
    sys.exit(exit_code)
