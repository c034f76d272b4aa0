"""`ghub provider`, as it is typed."""

from pathlib import Path
from typing import Annotated

import typer

from ghub.checking.run import run_check
from ghub.errors import StartRefused
from provider.config.reading import read_configuration, start


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
        raise typer.Exit(run_check(configuration, as_json=as_json))
    from provider.agent import run  # noqa: PLC0415 - it takes 1 s, which a look and a mistake do without

    raise typer.Exit(start(configuration, run))
