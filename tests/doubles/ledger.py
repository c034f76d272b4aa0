"""The test engine's books: what was asked of it, what runs now, and how each generation ended."""

import asyncio
import hashlib
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

_KEPT_RECORDS = 50
_SHOWN_HEADERS = ("content-type", "x-request-id", "traceparent")


class Outcome(StrEnum):
    """How a request ended, or that it has not."""

    OPEN = "open"
    FINISHED = "finished"
    CANCELLED = "cancelled"  # the client closed the connection first
    REFUSED = "refused"  # 400 or 401: never became a generation
    FAILED = "failed"  # a scripted refusal, cut or error


@dataclass(slots=True)
class Record:
    """One request to a generating endpoint, without its text and without its key."""

    path: str
    model: str | None
    body_sha256: str
    body_bytes: int
    headers: dict[str, str | bool | None]
    begun_tokens: int = 0
    """How many tokens of the answer stood in the request, to be gone on with; 0: it was asked anew."""
    outcome: Outcome = Outcome.OPEN


class Ledger:
    """Counts generations. Since the last reset: started = open + finished + cancelled + failed."""

    def __init__(self) -> None:
        self.running = 0
        self._open = 0
        self._max_open = 0
        self._started = 0
        self._ended: Counter[Outcome] = Counter()
        self._records: deque[Record] = deque(maxlen=_KEPT_RECORDS)

    def note(self, path: str, headers: Mapping[str, str], body: bytes) -> Record:
        """Enter a request that has arrived in full."""
        shown: dict[str, str | bool | None] = {name: headers.get(name) for name in _SHOWN_HEADERS}
        shown["authorization"] = "authorization" in headers
        record = Record(path, None, hashlib.sha256(body).hexdigest(), len(body), shown)
        self._records.append(record)
        return record

    @contextmanager
    def generation(self, record: Record) -> Iterator[None]:
        """Count one generation as open for as long as the block runs; an outcome set inside stays."""
        self._started += 1
        self._open += 1
        self._max_open = max(self._max_open, self._open)
        try:
            yield
        except (asyncio.CancelledError, ConnectionError):
            self._close(record, Outcome.CANCELLED)
            raise
        except BaseException:
            self._close(record, Outcome.FAILED)
            raise
        self._close(record, Outcome.FINISHED)

    def reset(self) -> None:
        """Forget the past; what is open now stays open and counts as started."""
        self._started = self._max_open = self._open
        self._ended.clear()
        self._records.clear()

    def state(self) -> dict[str, Any]:
        """Return the JSON of GET /control/state."""
        return {
            "open": self._open,
            "running": self.running,
            "started": self._started,
            "finished": self._ended[Outcome.FINISHED],
            "cancelled": self._ended[Outcome.CANCELLED],
            "failed": self._ended[Outcome.FAILED],
            "max_open": self._max_open,
            "requests": [asdict(record) for record in self._records],
        }

    def _close(self, record: Record, outcome: Outcome) -> None:
        if record.outcome is Outcome.OPEN:
            record.outcome = outcome
        self._open -= 1
        self._ended[record.outcome] += 1
