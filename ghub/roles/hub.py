"""`ghub hub`, as it is typed."""

from typing import Annotated

import typer

from common.settings import read_settings
from ghub.options import Host, Port, RedisUrl, given
from hub.settings import HubSettings


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
    settings = read_settings(HubSettings, **given(host=host, port=port, redis_url=redis_url))
    if workers > 1:
        from ghub.roles.workers import run_workers  # noqa: PLC0415 - a hub needs nothing of what looks after several

        raise typer.Exit(run_workers(settings, workers))
    from hub.server import run  # noqa: PLC0415 - nor what looks after them anything of a hub

    raise typer.Exit(run(settings))
