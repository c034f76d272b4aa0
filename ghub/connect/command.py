"""`ghub connect`, as it is typed."""

from pathlib import Path
from typing import Annotated

import typer

from common.settings import read_settings
from ghub.client.secret_files import read_file
from ghub.connect.server import run
from ghub.connect.settings import ConnectSettings
from ghub.options import given


def connect(
    *,
    hub: Annotated[
        list[str] | None,
        typer.Option(
            help="A hub to begin with; may be given several times. [env: GHUB_CONNECT_HUBS, url,url]", metavar="URL"
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [env: GHUB_CONNECT_HOST]")] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on, Ollama's by default. [env: GHUB_CONNECT_PORT]", min=0, max=65535),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the API key for clients that show none. [env: GHUB_CONNECT_API_KEY, the key itself]",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Run a front of all hubs for the clients on this machine: what a hub began, another one ends."""
    api_key = None if api_key_file is None else read_file("API key", api_key_file)
    options = given(hubs=hub or None, host=host, port=port, api_key=api_key)
    raise typer.Exit(run(read_settings(ConnectSettings, **options)))
