"""A provider that writes replies to a broker in memory, in a time of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from common.broker.reconnections import CountedReconnections
from common.streams.replies import ReplyStreams
from common.types import ModelId, NodeId, RequestId
from common.wire import Job, ReplyEntry
from provider.replies.reopening import ReopenWindow
from provider.replies.reply import Reply, ReplyState
from provider.replies.writer import ReplyWriter
from tests.unit.reply_shelf import Shelf
from tests.unit.virtual_time import in_virtual_time

NODE, OTHER = NodeId("node-1"), NodeId("node-2")
CLAIM = ReplyEntry(claim=NODE)
GRACE_S = 20.0


class Attempt:
    """One job's reply, and what it was told of its end."""

    def __init__(self, writer: ReplyWriter, request: str, attempt: int = 1) -> None:
        self.over: list[ReplyState] = []
        job = Job(RequestId(request), attempt, ModelId("m"), "/v1/completions", True, b"{}", request, 0)
        self.reply: Reply = writer.open(job, "bell", self.over.append)

    async def say(self, *data: bytes) -> None:
        """Have each written in an entry of its own."""
        for one in data:
            self.reply.put_data(one)
            assert await self.reply.flushed() is ReplyState.OPEN


class Node:
    """A writer at work and the broker it writes to."""

    def __init__(self, flush_gap_ms: float = 0) -> None:
        self.shelf = Shelf()
        self.reconnections = CountedReconnections()
        streams = cast("ReplyStreams", self.shelf)
        window = ReopenWindow(self.reconnections)
        self.writer = ReplyWriter(streams, window, flush_gap_ms=flush_gap_ms, broker_grace_s=GRACE_S)

    def open(self, request: str = "r1", attempt: int = 1) -> Attempt:
        """Begin an attempt at a request whose reply is open in the broker."""
        self.shelf.say(request)
        return Attempt(self.writer, request, attempt)

    async def claimed(self, request: str = "r1", attempt: int = 1) -> Attempt:
        begun = self.open(request, attempt)
        begun.reply.put(CLAIM)
        assert await begun.reply.flushed() is ReplyState.OPEN
        return begun

    def come_back(self) -> None:
        """The connection was lost and is made anew."""
        self.reconnections.count += 1
        self.shelf.renewals += 1

    def said(self, request: str = "r1") -> list[str]:
        """What the broker has of a reply."""
        held = self.shelf.replies.get(request)
        assert isinstance(held, list)
        return [f"{entry_id} {entry.data.decode() or 'claim'}" for entry_id, entry in held]


def at_work(story: Callable[[Node], Awaitable[None]], *, flush_gap_ms: float = 0) -> None:
    """Tell a story beside a writer at work."""

    async def whole() -> None:
        await asyncio.sleep(1000)
        node = Node(flush_gap_ms)
        task = asyncio.create_task(node.writer.run())
        await asyncio.sleep(0)
        await story(node)
        assert not task.done()
        task.cancel()

    in_virtual_time(whole())
