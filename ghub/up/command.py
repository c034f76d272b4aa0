"""`ghub up`, as it is typed."""

from pathlib import Path
from typing import Annotated

import typer

from common.settings import read_settings
from ghub.options import Host, Port, RedisUrl, given
from ghub.settings import UpSettings
from ghub.up.run import run


def up(
    *,
    host: Host = None,
    port: Port = None,
    hubs: Annotated[int | None, typer.Option(help="Hub processes that share the port.", min=1, max=64)] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder for what outlives the stack.", envvar="GHUB_DATA_DIR")
    ] = None,
    redis_url: RedisUrl = None,
    engine_url: Annotated[
        str | None, typer.Option(help="Engine that runs already.", envvar="GHUB_PROVIDER_ENGINE__URL")
    ] = None,
    slots: Annotated[int | None, typer.Option(help="Jobs at once.", envvar="GHUB_PROVIDER_SLOTS", min=1)] = None,
) -> None:
    """Run the whole stack on this machine: broker, hub, provider and engine."""
    options = given(
        host=host,
        port=port,
        hubs=hubs,
        data_dir=data_dir and data_dir.expanduser().absolute(),
        redis_url=redis_url,
        engine_url=engine_url,
        slots=slots,
    )
    raise typer.Exit(run(read_settings(UpSettings, **options)))
