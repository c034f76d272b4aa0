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
    inbox.deliver(entries((1, 3)))
    fullness.append(inbox.is_full)
    inbox.deliver(entries((1, 4)))
    fullness.append(inbox.is_full)
    assert fullness == [False, True, True, False, False, True]


def test_a_byte_less_than_its_limit_does_not_fill_it() -> None:
    inbox = Inbox(RequestId("r1"), REPLY, 1001)
    for n in range(2):
        inbox.deliver(entries((1, n)))
        assert not inbox.is_full
        inbox.take()


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


def test_what_stands_behind_a_hole_is_passed_over_and_told() -> None:
    inbox = Inbox(RequestId("r1"), REPLY, 10_000)
    inbox.deliver(entries((1, 0)))
    assert inbox.broken_attempt == 0
    inbox.deliver(entries((1, 2), (1, 3), (2, 0)))
    assert (inbox.broken_attempt, inbox.last) == (1, (2, 0))
    for held in (inbox.take(), inbox.log.entries):
        assert [entry_id for entry_id, _ in held] == [(1, 0), (2, 0)]


def test_it_knows_how_long_its_entries_are_on_average() -> None:
    """By that a hub guesses what a client that is behind has left at the broker."""
    inbox = Inbox(RequestId("r1"), REPLY, 100)
    assert inbox.entry_bytes == 0
    inbox.deliver(entries((1, 0)))
    assert inbox.entry_bytes == 1000
    inbox.deliver(entries((1, 1)))
    inbox.deliver([(EntryId(1, 2), ReplyEntry(data=b"x" * 400))])
    inbox.take()
    assert inbox.entry_bytes == 800


def test_it_keeps_as_much_as_it_holds_unless_told_otherwise() -> None:
    for log_bytes, is_whole in ((None, True), (1999, False), (0, False)):
        inbox = Inbox(RequestId("r1"), REPLY, 2000, log_bytes=log_bytes)
        inbox.deliver(entries((1, 0), (1, 1)))
        assert inbox.log.is_whole is is_whole


def test_a_new_one_knows_of_no_trouble() -> None:
    inbox = Inbox(RequestId("r1"), REPLY, 2000)
    flags = (inbox.is_unborn, inbox.is_unread, inbox.is_lost, inbox.was_shaken, inbox.was_rung, inbox.was_skipped)
    assert (inbox.is_own, inbox.has_news, *flags) == (True, *[False] * 7)


async def test_a_shake_wakes_its_handler_and_is_remembered() -> None:
    inbox = Inbox(RequestId("r1"), REPLY, 2000)
    waiting = asyncio.create_task(inbox.wait())
    await asyncio.sleep(0)
    inbox.shake()
    await asyncio.wait_for(waiting, 1)
    assert inbox.was_shaken
    assert not inbox.has_news


async def test_a_handler_that_gave_up_waiting_can_wait_again() -> None:
    inbox = Inbox(RequestId("r1"), REPLY, 2000)
    waiting = asyncio.create_task(inbox.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    inbox.deliver(entries((1, 0)))
    inbox.poke()
    await asyncio.wait_for(inbox.wait(), 1)
    again = asyncio.create_task(inbox.wait())
    await asyncio.sleep(0)
    assert not again.done()
    again.cancel()
