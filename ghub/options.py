"""Options of several commands that run something; those of commands that speak to a hub: `ghub.client.options`."""

from typing import Annotated, Any

import typer

RedisUrl = Annotated[
    str | None, typer.Option(help="Broker that runs already.", envvar="GHUB_REDIS_URL", show_envvar=True)
]
Host = Annotated[str | None, typer.Option(help="Address to listen on.", envvar="GHUB_HUB_HOST")]
Port = Annotated[int | None, typer.Option(help="Port to listen on.", envvar="GHUB_HUB_PORT", min=0, max=65535)]


def given(**options: object) -> dict[str, Any]:
    """Leave out the options that were not given, so that settings find their environment or default."""
    return {name: value for name, value in options.items() if value is not None}
