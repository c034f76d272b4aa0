"""What every command that speaks to a hub takes."""

from pathlib import Path
from typing import Annotated

import typer

HubUrl = Annotated[
    str | None,
    typer.Option("--hub-url", help="The hub, by default http://127.0.0.1:8080. [env: GHUB_HUB_URL]", metavar="URL"),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--admin-token-file",
        help="File with the hub's admin token. [env: GHUB_HUB_ADMIN_TOKEN, the token itself] By default, and for a hub "
        "on this machine only, that of ghub up.",
        metavar="FILE",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
