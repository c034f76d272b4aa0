"""Standard output and error, on whatever they lead to."""

import codecs
import errno
import os
import sys

LOST = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF, errno.EPIPE})
"""What writing to them fails with where nothing of ours is wrong: a full disk, a terminal or a reader that is gone."""


def bear_any_text() -> None:
    """Have characters that the terminal's encoding lacks written as `?`; a name of a model must not end a command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # none at all where it was closed, another one in tests
            stream.reconfigure(errors="replace")


def give_up_output() -> None:
    """Let what could not be written go: at its end Python would try once more, and tell of it in its own words."""
    if sys.stdout is not None:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


def writes_unicode() -> bool:
    """Whether every character can be written to standard output."""
    try:
        return codecs.lookup(getattr(sys.stdout, "encoding", None) or "utf-8").name.startswith("utf-")
    except LookupError:
        return False
