"""The entries of a reply in their order, and which of them count."""

from common.wire import OPENING_ID, EntryId, ReplyEntry

LoggedEntry = tuple[EntryId, ReplyEntry]
"""An entry of a reply, under its id."""


class Succession:
    """Tells which entries of a reply count, read from its beginning: of each attempt those before the first gap.

    A provider numbers its entries without gaps, and ids only rise. Where a reply vanished together with entries that
    nobody else had read, and its hub made it anew, the attempt's further words come behind a hole. Hub and providers
    pass over them alike, and the next attempt goes on before the hole.
    """

    def __init__(self) -> None:
        self._last = EntryId.parse(OPENING_ID.encode())
        self.broken_attempt = 0
        """The last attempt that has a gap; 0 if none has."""

    def counts(self, entry_id: EntryId) -> bool:
        """Whether this entry counts; each is to be asked for once, in order."""
        last, self._last = self._last, entry_id
        expected = last.n + 1 if entry_id.attempt == last.attempt else 0
        if entry_id.n != expected:
            self.broken_attempt = entry_id.attempt
        return entry_id.attempt != self.broken_attempt
