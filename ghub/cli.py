"""The `ghub` command.

Exit codes: 0 it ended as asked; 1 it was started and failed; 2 a wrong option, setting or surrounding, nothing was
started; 130 Ctrl-C before there was anything to stop. Errors are one line on standard error, never a traceback.
"""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any

import typer

from common.errors import SettingsError
from ghub.errors import EXIT_REFUSED, CommandError

app = typer.Typer(
    name="ghub",
    help="One OpenAI-compatible address over many GPU machines that are only sometimes free.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RedisUrl = Annotated[
    str | None, typer.Option(help="Broker that runs already.", envvar="GHUB_REDIS_URL", show_envvar=True)
]
EngineUrl = Annotated[str | None, typer.Option(help="Engine that runs already.", envvar="GHUB_PROVIDER_ENGINE__URL")]
Slots = Annotated[int | None, typer.Option(help="Jobs at once.", envvar="GHUB_PROVIDER_SLOTS", min=1)]
Host = Annotated[str | None, typer.Option(help="Address to listen on.", envvar="GHUB_HUB_HOST")]
Port = Annotated[int | None, typer.Option(help="Port to listen on.", envvar="GHUB_HUB_PORT", min=0, max=65535)]


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer's form
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


@app.command()
def up(
    *,
    host: Host = None,
    port: Port = None,
    hubs: Annotated[int | None, typer.Option(help="Hub processes that share the port.", min=1, max=64)] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder for what outlives the stack.", envvar="GHUB_DATA_DIR")
    ] = None,
    redis_url: RedisUrl = None,
    engine_url: EngineUrl = None,
    slots: Slots = None,
) -> None:
    """Run the whole stack on this machine: broker, hub, provider and engine."""
    from common.settings import read_settings  # noqa: PLC0415
    from ghub.settings import UpSettings  # noqa: PLC0415 - `ghub --help` is quick
    from ghub.up import run  # noqa: PLC0415

    given = _given(host=host, port=port, hubs=hubs, redis_url=redis_url, engine_url=engine_url, slots=slots)
    if data_dir is not None:
        given["data_dir"] = data_dir.expanduser().absolute()
    raise typer.Exit(run(read_settings(UpSettings, **given)))


@app.command()
def hub(*, host: Host = None, port: Port = None, redis_url: RedisUrl = None) -> None:
    """Run a hub: the HTTP API, on a broker that runs already."""
    from common.settings import read_settings  # noqa: PLC0415
    from hub.server import run  # noqa: PLC0415
    from hub.settings import HubSettings  # noqa: PLC0415

    given = _given(host=host, port=port, redis_url=redis_url)
    raise typer.Exit(run(read_settings(HubSettings, **given)))


@app.command()
def provider(
    *,
    redis_url: RedisUrl = None,
    engine_url: EngineUrl = None,
    name: Annotated[str | None, typer.Option(help="Name of this machine in the grid.")] = None,
    slots: Slots = None,
) -> None:
    """Run a provider: it takes jobs from a broker for the engine on this machine."""
    from common.settings import read_settings  # noqa: PLC0415
    from ghub.engine_choice import engine_root  # noqa: PLC0415
    from provider.agent import run  # noqa: PLC0415
    from provider.settings import EngineSettings, ProviderSettings  # noqa: PLC0415

    given = _given(redis_url=redis_url, name=name, slots=slots)
    if engine_url is not None:
        others = ProviderSettings().engine.model_dump()
        given["engine"] = EngineSettings.model_validate({**others, "url": engine_root(engine_url)})
    raise typer.Exit(run(read_settings(ProviderSettings, **given)))


def _given(**options: object) -> dict[str, Any]:
    """Leave out the options that were not given, so that settings find their environment or default."""
    return {name: value for name, value in options.items() if value is not None}


def main() -> None:
    """Run the command; what a user can mend becomes one line on standard error and an exit code."""
    try:
        app()
    except SettingsError as exc:
        _end(exc, EXIT_REFUSED)
    except CommandError as exc:
        _end(exc, exc.exit_code)


def _end(error: Exception, exit_code: int) -> None:
    sys.stderr.write(f"ghub: {error}\n")
    sys.exit(exit_code)
