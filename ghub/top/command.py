"""`ghub top`, as it is typed."""

import os
import sys
import time
from typing import Annotated

import typer
from rich.console import Console

from ghub.client.hub import AdminHub
from ghub.client.options import HubUrl, TokenFile
from ghub.errors import StartRefused
from ghub.live.following import Following, Seen
from ghub.showing.tables import show_json
from ghub.top.screen import show_live, show_once

PIPE_COLUMNS = 120
"""Where nobody says how wide the screen is."""


def top(
    *,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and leave.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one snapshot as JSON and leave.")] = False,
    hub_url: HubUrl = None,
    admin_token_file: TokenFile = None,
) -> None:
    """Show the grid live on one screen: GPUs, queues, what runs and how fast. q leaves."""
    is_seen = sys.stdout.isatty()
    if not (once or as_json or is_seen):
        raise StartRefused("standard output is no terminal: use --once or --json")
    console = Console(highlight=False)
    if console.is_dumb_terminal and not (once or as_json):
        raise StartRefused("this terminal (TERM) cannot be painted over: use --once or --json")
    hub = AdminHub.open(hub_url, admin_token_file)
    first = hub.get("overview")
    if as_json:
        show_json(first)
        return
    if not is_seen and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=PIPE_COLUMNS)
    if once:
        show_once(Seen(first, time.monotonic()), console)
    else:
        show_live(Following(hub, first), console)
