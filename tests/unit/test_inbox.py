"""The inbox of a request: each entry once, in order, and no more of them than it may hold."""

import asyncio
from collections.abc import Sequence

from common.types import RequestId
from common.wire import EntryId, ReplyEntry
from hub.relay.inbox import Inbox

REPLY = "ghub:reply:{h}:r1"


def entries(*ids: Sequence[int]) -> list[tuple[EntryId, ReplyEntry]]:
    return [(EntryId(*one), ReplyEntry(data=b"x" * 1000)) for one in ids]


def test_only_newer_entries_are_taken_in() -> None:
    inbox = Inbox(RequestId("r1"), REPLY, 1000)
    inbox.deliver(entries((0, 1), (1, 0), (1, 1)))
    inbox.deliver(entries((1, 0), (1, 1), (1, 2), (2, 0), (1, 3)))
    assert [entry_id for entry_id, _ in inbox.take()] == [(1, 0), (1, 1), (1, 2), (2, 0)]
    assert inbox.take() == []


def test_it_is_full_at_its_limit_and_empty_after_a_take() -> None:
    inbox = Inbox(RequestId("r1"), REPLY, 2000)
    fullness = []
    for n in range(3):
        inbox.deliver(entries((1, n)))
        fullness.append(inbox.is_full)
    inbox.take()
    fullness.append(inbox.is_full)
    assert fullness == [False, True, True, False]


def test_entries_without_data_fill_it_too_and_are_not_kept_without_end() -> None:
    inbox = Inbox(RequestId("r1"), REPLY, 2000)
    for n in range(100):
        inbox.deliver([(EntryId(1, n), ReplyEntry())])
    assert inbox.is_full
    assert not inbox.log.is_whole
    assert not inbox.log.entries


async def test_a_poke_wakes_once() -> None:
    inbox = Inbox(RequestId("r1"), REPLY, 20)
    inbox.poke()
    await asyncio.wait_for(inbox.wait(), 1)
    waiting = asyncio.create_task(inbox.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    inbox.deliver(entries((1, 0)))
    await asyncio.wait_for(waiting, 1)
