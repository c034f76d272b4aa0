"""Takes a stream apart that a hub tells entry by entry (`hub/api/entry_frames.py` says how).

Only whole parts come out, so what was delivered is always a whole number of entries, and the rest can be asked for at
any hub: nothing of an entry that came by half is ever told twice.
"""

from typing import NamedTuple

LONGEST_LINE_BYTES = 128


class Part(NamedTuple):
    """An entry, or what a hub says itself."""

    what: str
    """`1-57`, `-`, `!code` or `.`."""
    data: bytes


class NoEntries(Exception):
    """This is not a stream of entries."""


class EntryParser:
    """One connection's bytes as parts."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._needed = 0
        """So many bytes are wanted before it is worth looking again."""

    def feed(self, data: bytes) -> list[Part]:
        """The parts that these bytes complete; NoEntries if they cannot be any."""
        held = self._held
        held += data
        parts: list[Part] = []
        at = 0
        while len(held) >= self._needed:
            line_end = held.find(b"\n", at, at + LONGEST_LINE_BYTES)
            if line_end < 0:
                if len(held) - at >= LONGEST_LINE_BYTES:
                    raise NoEntries("a line without an end")
                break
            what, _, size = bytes(held[at:line_end]).partition(b" ")
            if not what or not what.isascii() or not size.isdigit():
                raise NoEntries(f"not the head of an entry: {bytes(held[at:line_end])!r}")
            end = line_end + 1 + int(size)
            if end > len(held):
                self._needed = end - at
                break
            parts.append(Part(what.decode(), bytes(held[line_end + 1 : end])))
            at, self._needed = end, 0
        del held[:at]
        return parts
