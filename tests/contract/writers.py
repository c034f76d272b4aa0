"""ReplyWriters at work, and attempts that speak through them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from common.broker.broker import Broker
from common.streams.replies import ReplyStreams
from provider.replies.reopening import ReopenWindow
from provider.replies.reply import Reply, ReplyState
from provider.replies.writer import ReplyWriter
from tests.contract.story import HUB, KEYS, a_job, at_work, entries_of

BELL = KEYS.doorbell(HUB)
REPLY = a_job("r1").reply


@asynccontextmanager
async def writing(broker: Broker, *, flush_gap_ms: float = 2, grace_s: float = 20) -> AsyncIterator[ReplyWriter]:
    """A writer at work."""
    window = ReopenWindow(broker.reconnections)
    writer = ReplyWriter(ReplyStreams(broker), window, flush_gap_ms=flush_gap_ms, broker_grace_s=grace_s)
    async with at_work(writer.run()):
        yield writer


class Attempt:
    """A reply of a writer, and what it was told of its end."""

    def __init__(self, writer: ReplyWriter, request: str = "r1", attempt: int = 1) -> None:
        self.over: list[ReplyState] = []
        self.reply: Reply = writer.open(a_job(request, attempt=attempt), BELL, self.over.append)


def events(count: int, begin: int = 0) -> list[bytes]:
    return [b"data: %d\n\n" % n for n in range(begin, begin + count)]


async def said(broker: Broker, request: str = "r1") -> bytes:
    return b"".join(entry.data for _, entry in await entries_of(broker, a_job(request).reply))


async def assert_ids_count_up(broker: Broker, request: str = "r1") -> None:
    ids = [entry_id for entry_id, _ in await entries_of(broker, a_job(request).reply)]
    assert ids == [f"1-{n}" for n in range(len(ids))]
