"""What every command that speaks to a hub takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ghub.errors import StartRefused

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
Watch = Annotated[
    float | None,
    typer.Option(
        "--watch",
        help="Look again every so many seconds, 2 unless given, until Ctrl-C.",
        metavar="[SECONDS]",
        min=0.1,
        max=86_400,
    ),
]
WATCH_S = "2"


def refuse_options_before(subcommand: str, context: typer.Context) -> None:
    """Refuse options of a group where a subcommand follows: nothing would come of them.

    Raises:
        StartRefused: there are some.
    """
    sources = filter(None, map(context.get_parameter_source, context.params))
    if any(source.name == "COMMANDLINE" for source in sources):
        raise StartRefused(f"options stand behind {subcommand!r}")


def with_watch_seconds(words: Sequence[str]) -> list[str]:
    """The words of a command line, with the usual seconds behind a `--watch` that has none: typer's options have to."""
    return [
        f"--watch={WATCH_S}" if word == "--watch" and not _is_number("".join(words[place : place + 1])) else word
        for place, word in enumerate(words, 1)
    ]


def _is_number(word: str) -> bool:
    return word.replace(".", "", 1).isdecimal()
