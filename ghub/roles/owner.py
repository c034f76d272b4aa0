"""`ghub pause` and `ghub resume`, as they are typed."""

from pathlib import Path
from typing import Annotated

import typer

from ghub.roles.owner_word import say
from provider.config.reading import read_configuration

ProviderUrl = Annotated[
    str | None, typer.Option("--url", help="The provider's own HTTP; by default where its settings say.", metavar="URL")
]
ProviderConfig = Annotated[
    Path | None, typer.Option("--config", help="The provider's YAML file. [env: GHUB_PROVIDER_CONFIG]", metavar="FILE")
]


def pause(*, url: ProviderUrl = None, config: ProviderConfig = None) -> None:
    """Let the provider on this machine take no more work; what runs goes on."""
    _say_to_provider("pause", url, config)


def resume(*, url: ProviderUrl = None, config: ProviderConfig = None) -> None:
    """Let the provider on this machine take work again."""
    _say_to_provider("resume", url, config)


def _say_to_provider(word: str, url: str | None, config: Path | None) -> None:
    reasons = say(word, read_configuration(config).settings, url)
    typer.echo(f"the provider takes no work: {', '.join(reasons)}" if reasons else "the provider takes work")
