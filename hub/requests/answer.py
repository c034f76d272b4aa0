"""What has come of an answer and was not taken yet, out of the words of all attempts."""

import structlog

from common.types import RequestId
from common.wire import EntryId, ReplyEntry, Start, Usage
from hub.errors import ProviderLost
from hub.relay.retelling import Retelling

log = structlog.get_logger()


class Answer:
    """The answer to one request, for the hub that looks after it."""

    def __init__(self, request: RequestId, *, is_stream: bool) -> None:
        self._request = request
        self._is_stream = is_stream
        self._told = Retelling(is_stream=is_stream)
        self._data: list[bytes] = []

    @property
    def start(self) -> Start | None:
        """How it began; of a stream, how its first attempt did."""
        return self._told.start

    @property
    def usage(self) -> Usage | None:
        """Set at its end."""
        return self._told.usage

    @property
    def has_data(self) -> bool:
        """Whether any of it has ever come."""
        return self._told.has_data

    @property
    def has_begun(self) -> bool:
        """Whether no attempt can begin it anew: a client may have heard some of it."""
        return self._told.has_begun

    @property
    def untaken_bytes(self) -> int:
        """How long that is which `take` would give."""
        return sum(map(len, self._data)) if self._is_stream else self._told.size_bytes

    def take(self) -> bytes:
        """What has come and was not taken yet."""
        if not self._is_stream:
            return self._told.take()
        data, self._data = self._data, []
        return data[0] if len(data) == 1 else b"".join(data)

    @property
    def may_flow(self) -> bool:
        """Whether further data of this attempt can be added by `flow`."""
        return self._is_stream and self._told.does_fit and not self._told.is_over

    def flow(self, entry_id: EntryId, data: bytes) -> None:
        """Add the data of the next entry of a stream that flows."""
        self._told.flow(entry_id)
        self._data.append(data)

    def add(self, entry_id: EntryId, entry: ReplyEntry) -> None:
        """Add what the next entry of the reply holds.

        Raises:
            ProviderLost: its attempt goes on with something else than what has come.
        """
        last = self._told.last_data
        self._data += [data for _, data in self._told.read_on([(entry_id, entry)])]
        if not self._told.does_fit:
            log.error("seam_does_not_fit", request=self._request, at=str(entry_id), last=last)
            raise ProviderLost("the answer could not be continued: parts of it were lost")
