"""The `ghub` command.

Exit codes: 0 it ended as asked; 1 it was started and failed; 2 a wrong option, setting or surrounding, nothing was
started; 130 Ctrl-C before there was anything to stop. Errors are a line each on standard error, never a traceback.
"""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any

import typer

from common.errors import SettingsError
from ghub.admin.grid import grid_app
from ghub.admin.keys import key_app
from ghub.admin.nodes import nodes_app
from ghub.admin.requests import requests_app
from ghub.admin.tokens import token_app
from ghub.admin.usage import usage_app
from ghub.admin.why import why_app
from ghub.chat.command import chat_app
from ghub.client.options import with_watch_seconds
from ghub.connect.command import connect_app
from ghub.doctor.command import doctor_app
from ghub.errors import EXIT_FAILED, EXIT_REFUSED, CommandError, StartRefused
from ghub.services.command import service_app
from ghub.showing.standard_streams import LOST, bear_any_text
from ghub.top.command import top_app

app = typer.Typer(
    name="ghub",
    help="One OpenAI-compatible address over many GPU machines that are only sometimes free.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(service_app, name="service")
app.add_typer(key_app, name="key")
app.add_typer(token_app, name="token")
app.add_typer(nodes_app, name="nodes")
app.add_typer(requests_app, name="requests")
app.add_typer(grid_app)
app.add_typer(doctor_app)
app.add_typer(top_app)
app.add_typer(usage_app)
app.add_typer(why_app)
app.add_typer(chat_app)
app.add_typer(connect_app)

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
    from ghub.up.run import run  # noqa: PLC0415

    given = _given(host=host, port=port, hubs=hubs, redis_url=redis_url, engine_url=engine_url, slots=slots)
    if data_dir is not None:
        given["data_dir"] = data_dir.expanduser().absolute()
    raise typer.Exit(run(read_settings(UpSettings, **given)))


@app.command()
def hub(
    *,
    host: Host = None,
    port: Port = None,
    redis_url: RedisUrl = None,
    workers: Annotated[
        int, typer.Option(help="Hub processes that share the port.", envvar="GHUB_HUB_WORKERS", min=1, max=64)
    ] = 1,
) -> None:
    """Run a hub: the HTTP API, on a broker that runs already."""
    from common.settings import read_settings  # noqa: PLC0415
    from hub.settings import HubSettings  # noqa: PLC0415

    settings = read_settings(HubSettings, **_given(host=host, port=port, redis_url=redis_url))
    if workers > 1:
        from ghub.roles.workers import run_workers  # noqa: PLC0415

        raise typer.Exit(run_workers(settings, workers))
    from hub.server import run  # noqa: PLC0415

    raise typer.Exit(run(settings))


@app.command()
def provider(
    *,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file; see docs/configuration.md. [env: GHUB_PROVIDER_CONFIG]", metavar="FILE"),
    ] = None,
    redis_url: Annotated[str | None, typer.Option(help="Broker. [env: GHUB_REDIS_URL]", metavar="URL")] = None,
    hub_url: Annotated[
        str | None,
        typer.Option(
            help="Hub to join, with --token and no --redis-url; reports go there. [env: GHUB_PROVIDER_HUB_URL]",
            metavar="URL",
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            help="Token at the hub. Others see it in the list of processes: better set GHUB_PROVIDER_TOKEN, or "
            "provider.api_key in the file.",
            metavar="T",
        ),
    ] = None,
    engine_url: Annotated[
        str | None, typer.Option(help="Engine. [env: GHUB_PROVIDER_ENGINE__URL]", metavar="URL")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of this machine in the grid. [env: GHUB_PROVIDER_NAME]")
    ] = None,
    slots: Annotated[int | None, typer.Option(help="Jobs at once. [env: GHUB_PROVIDER_SLOTS]")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port of its own HTTP, 8081 by default. [env: GHUB_PROVIDER_SERVER__PORT]")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Start nothing: show the settings, and look whether all it needs is there.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --check: print JSON.")] = False,
) -> None:
    """Run a provider: it takes jobs from a broker for the engine on this machine."""
    from provider.config.reading import read_configuration, start  # noqa: PLC0415

    given: dict[tuple[str, ...], object] = {
        ("redis_url",): redis_url,
        ("hub_url",): hub_url,
        ("token",): token,
        ("engine", "url"): engine_url,
        ("name",): name,
        ("slots",): slots,
        ("server", "port"): port,
    }
    if as_json and not check:
        raise StartRefused("--json goes with --check")
    configuration = read_configuration(config, given)
    if check:
        from ghub.checking.run import run_check  # noqa: PLC0415

        raise typer.Exit(run_check(configuration, as_json=as_json))
    from provider.agent import run  # noqa: PLC0415

    raise typer.Exit(start(configuration, run))


ProviderUrl = Annotated[
    str | None, typer.Option("--url", help="The provider's own HTTP; by default where its settings say.", metavar="URL")
]
ProviderConfig = Annotated[
    Path | None, typer.Option("--config", help="The provider's YAML file. [env: GHUB_PROVIDER_CONFIG]", metavar="FILE")
]


@app.command()
def pause(*, url: ProviderUrl = None, config: ProviderConfig = None) -> None:
    """Let the provider on this machine take no more work; what runs goes on."""
    _say_to_provider("pause", url, config)


@app.command()
def resume(*, url: ProviderUrl = None, config: ProviderConfig = None) -> None:
    """Let the provider on this machine take work again."""
    _say_to_provider("resume", url, config)


def _say_to_provider(word: str, url: str | None, config: Path | None) -> None:
    from ghub.roles.owner_word import say  # noqa: PLC0415
    from provider.config.reading import read_configuration  # noqa: PLC0415

    reasons = say(word, read_configuration(config).settings, url)
    typer.echo(f"the provider takes no work: {', '.join(reasons)}" if reasons else "the provider takes work")


def _given(**options: object) -> dict[str, Any]:
    """Leave out the options that were not given, so that settings find their environment or default."""
    return {name: value for name, value in options.items() if value is not None}


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
        _end(exc.strerror or exc, EXIT_FAILED)


def _end(error: Exception | str, exit_code: int) -> None:
    from common.logs import LogFormat, asked_for, configure_logs, say_failed  # noqa: PLC0415 - it takes 0.1 s

    log_format = asked_for()
    if log_format is LogFormat.JSON:
        configure_logs(log_format, "INFO")
    if sys.stderr is not None:
        say_failed("ghub", str(error), log_format)
    sys.exit(exit_code)
