"""The API key that a conversation shows."""

from pathlib import Path

from ghub.client.secret_files import read_secret

VARIABLES = ("GHUB_API_KEY", "OPENAI_API_KEY")


def read_key(file: Path | None) -> str | None:
    """The key of the file, else of the environment; None: none is shown.

    Raises:
        StartRefused: what is there is no key, or cannot be read.
    """
    return read_secret("API key", file, VARIABLES)
