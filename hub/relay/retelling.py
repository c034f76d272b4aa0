"""What the entries of a reply amount to: its head, its data, its end. Whoever reads a reply reads it through this.

A stream is the data of all attempts in the order of the reply; a later attempt says after which entry it goes on, and
one that goes on after any other says nothing that counts. A whole answer is what its last attempt said.
"""

from collections.abc import Iterable

from common.streams.replies import ReplyStreams
from common.succession import LoggedEntry
from common.types import NodeId
from common.wire import MAX_ATTEMPT, EntryId, Failure, Start, Usage

Piece = tuple[EntryId, bytes]
"""An entry's data: whole events."""


class Retelling:
    """One reply, as far as it has been read."""

    def __init__(self, *, is_stream: bool) -> None:
        self._is_stream = is_stream
        self._last_data: EntryId | None = None
        self.does_fit = True
        """Whether what the present attempt says goes on with what was said before."""
        self.has_data = False
        """Whether any data has ever come, also of an attempt whose words count no more."""
        self._whole: list[bytes] = []
        self._whole_attempt = 0
        self.start: Start | None = None
        """How the answer begins: of a stream its first attempt's, of a whole answer its last."""
        self.node: NodeId | None = None
        """Who has it, or had it last."""
        self.attempt = 1
        self.usage: Usage | None = None
        """What the answer took, once it is whole."""
        self.failure: Failure | None = None
        """Why there is no whole answer."""
        self.size_bytes = 0
        """Of a whole answer, as far as it has come and was not taken."""

    @property
    def is_over(self) -> bool:
        """Whether nothing that comes can change it."""
        return self.usage is not None or self.failure is not None

    @property
    def has_begun(self) -> bool:
        """Whether no attempt can begin it anew: a client may have heard some of it."""
        return self._last_data is not None

    @property
    def last_data(self) -> str:
        """The entry of a stream that the next attempt has to go on after; empty before the first."""
        return str(self._last_data or "")

    def take(self) -> bytes:
        """What of a whole answer has come and was not taken yet."""
        body, self._whole, self.size_bytes = b"".join(self._whole), [], 0
        return body

    def flow(self, entry_id: EntryId) -> None:
        """Take in the next entry of a stream: data of the attempt whose data came before, and nothing else."""
        self._last_data = entry_id

    def read_on(self, entries: Iterable[LoggedEntry]) -> list[Piece]:
        """Take the next entries in; of a stream, the data that they add."""
        pieces: list[Piece] = []
        for entry_id, entry in entries:
            if self.is_over:
                break
            if entry.claim is not None:
                self.node, self.attempt = entry.claim, entry_id.attempt
            if not self._is_stream and entry_id.attempt > self._whole_attempt:
                self._whole_attempt, self._whole, self.size_bytes, self.start = entry_id.attempt, [], 0, None
            if entry.start is not None:
                self._begin(entry.start)
            if entry.data and self._is_stream and self.does_fit:
                self.has_data, self._last_data = True, entry_id
                pieces.append((entry_id, entry.data))
            elif entry.data and not self._is_stream:
                self.has_data = True
                self._whole.append(entry.data)
                self.size_bytes += len(entry.data)
            if entry.end is not None and self.does_fit:
                self.usage = entry.end
            elif entry.error is not None and not entry.error.retryable:
                self.failure = entry.error
        return pieces

    def _begin(self, start: Start) -> None:
        self.does_fit = not self._is_stream or start.after == self.last_data
        if self.start is None:
            self.start = start


async def retold(replies: ReplyStreams, reply: str, *, is_stream: bool) -> Retelling:
    """What a reply in the broker amounts to, as far as it has come; one that is gone says nothing.

    Raises:
        BrokerError: nobody can tell.
        WireError: an entry is not what it should be.
    """
    told = Retelling(is_stream=is_stream)
    told.read_on(await replies.before(reply, MAX_ATTEMPT + 1))
    return told
