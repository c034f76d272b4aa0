"""`ghub doctor`, as it is typed."""

from pathlib import Path
from typing import Annotated

import typer

from ghub.client.options import HubUrl, Json, TokenFile
from ghub.doctor.examining import examine
from ghub.doctor.surroundings import survey


def doctor(
    *,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of ghub up.", envvar="GHUB_DATA_DIR", metavar="FOLDER")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="The provider's YAML file. [env: GHUB_PROVIDER_CONFIG]", metavar="FILE")
    ] = None,
    hub_url: HubUrl = None,
    admin_token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Look at all that a grid needs, and tell what to do where it is not well. Changes nothing."""
    raise typer.Exit(examine(survey(hub_url, admin_token_file, data_dir, config), as_json=as_json))
