"""Secrets of the person at the keyboard: from the environment or a file, never from an option's value.

Everybody on a machine can read the list of processes.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from ghub.errors import StartRefused


def read_secret(what: str, file: Path | None, variables: Sequence[str]) -> str | None:
    """A secret; None if there is none.

    Args:
        what: what it is, for people.
        file: holds it; it counts before the variables.
        variables: the first of these that is set and not empty.

    Raises:
        StartRefused: what is there cannot be a secret that stands in a header, or cannot be read.
    """
    if file is not None:
        return read_file(what, file)
    for name in variables:
        if found := os.environ.get(name, "").strip():
            return checked(what, found, name)
    return None


def read_file(what: str, file: Path) -> str:
    """The secret that a file holds, and nothing else."""
    try:
        return checked(what, file.expanduser().read_text(encoding="utf-8").strip(), str(file))
    except (OSError, UnicodeDecodeError) as exc:
        raise StartRefused(f"{file}: {getattr(exc, 'strerror', None) or f'holds no {what}'}") from exc


def checked(what: str, secret: str, source: str) -> str:
    """Raise StartRefused unless this can stand in a header."""
    if not secret or not secret.isascii() or not secret.isprintable():
        raise StartRefused(f"{source} holds no {what}")
    return secret
