"""What has come of an answer and was not taken yet, out of the words of all attempts."""

import structlog

from common.types import RequestId
from common.wire import EntryId, ReplyEntry, Start, Usage
from hub.errors import ProviderLost

log = structlog.get_logger()


class Answer:
    """The answer to one request.

    That of a stream is what all attempts said, in the order of the reply: a later one goes on where the last one ended.
    A whole answer is the last attempt's alone.
    """

    def __init__(self, request: RequestId, *, is_stream: bool) -> None:
        self._request = request
        self._is_stream = is_stream
        self._data: list[bytes] = []
        self._attempt = 0
        self._last_data: EntryId | None = None
        self.start: Start | None = None
        """How it began; of a stream, how its first attempt did."""
        self.usage: Usage | None = None
        """Set at its end."""
        self.has_data = False
        """Whether any of it has ever come."""

    @property
    def has_begun(self) -> bool:
        """Whether no attempt can begin it anew: a client may have heard some of it."""
        return self._is_stream and self._last_data is not None

    @property
    def untaken_bytes(self) -> int:
        """How long that is which `take` would give."""
        return sum(map(len, self._data))

    def take(self) -> bytes:
        """What has come and was not taken yet."""
        if not self._data:
            return b""
        data = self._data[0] if len(self._data) == 1 else b"".join(self._data)
        self._data = []
        return data

    def add(self, entry_id: EntryId, entry: ReplyEntry) -> None:
        """Add what the next entry of the reply holds.

        Raises:
            ProviderLost: its attempt goes on with something else than what has come.
        """
        if not self._is_stream and entry_id.attempt > self._attempt:
            self._attempt, self._data, self.start, self._last_data = entry_id.attempt, [], None, None
        if entry.start is not None:
            if self._is_stream and entry.start.after != str(self._last_data or ""):
                log.error("seam_does_not_fit", request=self._request, at=str(entry_id), last=str(self._last_data))
                raise ProviderLost("the answer could not be continued: parts of it were lost")
            self.start = self.start or entry.start
        if entry.data:
            self._data.append(entry.data)
            self._last_data = entry_id
            self.has_data = True
        if entry.end is not None:
            self.usage = entry.end
