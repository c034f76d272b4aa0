"""How a conversation begins, as keyed digests of ever longer beginnings: a follow-up has those of what came before it.

The client's bytes are taken as they are, in windows from where the conversation begins in the body: nothing is parsed,
and each API that sends the whole conversation every time looks the same. A client that writes the same messages in
other bytes is not recognised, which costs no more than not to have looked.
"""

import hashlib
from collections.abc import Sequence

from common.endpoints import ENDPOINTS
from common.signing import SigningKeys
from common.types import KeyId
from common.wire import Job

WINDOW_BYTES = 1024
MOST_WINDOWS = 256
"""So long a beginning counts; the rest of a longer conversation is not looked at."""
DIGEST_BYTES = 12
NEWEST = 16
"""So many of the longest beginnings are asked of the broker, beside those of doubling length."""


class Opening:
    """The beginnings of one conversation, the shortest first; `marks` are texts, `sizes` how many windows of each."""

    def __init__(self, marks: Sequence[str], first_size: int) -> None:
        self.marks = marks
        self._first_size = first_size

    def to_keep(self) -> list[str]:
        """What is remembered of it: the whole, and what other conversations may have in common with it."""
        return self._chosen(1)

    def to_ask(self) -> list[str]:
        """What is asked of the broker, the longest first: of some length a former turn has left its mark."""
        return self._chosen(NEWEST)[::-1]

    def _chosen(self, newest: int) -> list[str]:
        last = len(self.marks) - newest
        return [mark for at, mark in enumerate(self.marks) if at >= last or _is_doubling(self._first_size + at)]


def opening_of(job: Job, key: KeyId | None, signing: SigningKeys, min_bytes: int) -> Opening | None:
    """How a job's conversation begins; None if it has none, or one shorter than `min_bytes`.

    Clients with other keys have other digests of the same words, and so has each model.
    """
    known = ENDPOINTS.get(job.endpoint)
    start = job.body.find(f'"{known.conversation}"'.encode()) if known is not None and known.conversation else -1
    first = max(1, -(-min_bytes // WINDOW_BYTES))
    windows = min(MOST_WINDOWS, (len(job.body) - start) // WINDOW_BYTES) if start >= 0 else 0
    if windows < first:
        return None
    about = f"opening\0{key or ''}\0{job.model}".encode()
    secret = hashlib.sha256(signing.sign(about).encode() or about).digest()
    whole = hashlib.blake2b(key=secret, digest_size=DIGEST_BYTES)
    body, marks = memoryview(job.body), []
    for size in range(1, windows + 1):
        whole.update(body[start : start + WINDOW_BYTES])
        start += WINDOW_BYTES
        if size >= first:
            marks.append(whole.copy().hexdigest())
    return Opening(marks, first)


def _is_doubling(size: int) -> bool:
    return size & (size - 1) == 0
