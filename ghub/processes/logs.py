"""Log files of the children: one per part, the previous run's kept as `.1`, bounded in size.

Children write to their file directly (append mode), so that a busy supervisor neither loses nor delays it.
"""

import re
import shutil
from pathlib import Path

_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TAIL_BYTES = 16_384
_LINE_CHARACTERS = 400


def previous(log: Path) -> Path:
    """Where the log of the run before this one is kept."""
    return log.with_name(log.name + ".1")


def rotate(log: Path) -> None:
    """Put a log aside as the previous one, if there is one."""
    if log.exists():
        log.replace(previous(log))


def cap(log: Path, limit_bytes: int) -> None:
    """Copy a log that has outgrown `limit_bytes` aside and empty it under its writer's feet.

    Its writer appends, so it goes on at the new end; lines that it writes between copy and cut are lost.
    """
    if log.exists() and log.stat().st_size > limit_bytes:
        shutil.copyfile(log, previous(log))
        with log.open("r+b") as file:
            file.truncate(0)


def tail(log: Path, since_bytes: int = 0, count: int = 3) -> list[str]:
    """Return the last `count` lines that are not blank, of what follows the first `since_bytes` bytes."""
    try:
        with log.open("rb") as file:
            size_bytes = file.seek(0, 2)
            if size_bytes < since_bytes:  # it was emptied meanwhile
                since_bytes = 0
            file.seek(max(since_bytes, size_bytes - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    lines = (_TERMINAL_CODES.sub("", line).strip() for line in text.splitlines())
    return [line[:_LINE_CHARACTERS] for line in lines if line][-count:]
