"""A stream told entry by entry, for programs that hand it on and must know what of it they have, whatever its form.

Each part is a line `<what> <bytes>` and then so many bytes. `<what>` is an entry of the reply (`1-57`), `-` where the
hub itself says something that is in no entry, `!<code>` before an error, or `.` with which the stream ends; its bytes
are the end that an engine left out, or none.
"""

from collections.abc import Mapping

from hub.errors import plain_code

ENTRIES_HEADER = "x-ghub-entries"
"""`1` of a request asks for it, of an answer says that it is so."""
OWN = "-"
END = "."
ERROR = "!"


def wants_entries(headers: Mapping[str, str]) -> bool:
    """Whether a request asks for this."""
    return headers.get(ENTRIES_HEADER) == "1"


def frame(what: str, data: bytes) -> bytes:
    """One part."""
    return b"%b %d\n%b" % (what.encode(), len(data), data)


def error_mark(code: str) -> str:
    """What stands before an error with this code."""
    return ERROR + plain_code(code)
