"""What a hub keeps of a reply: within its limit all of it, past it nothing, and whoever reads along is woken."""

import asyncio

import pytest

from common.succession import LoggedEntry
from common.wire import EntryId, ReplyEntry
from hub.relay.log import LEAST_BYTES, ReplyLog, held_bytes


def said(n: int, size: int = LEAST_BYTES) -> LoggedEntry:
    return EntryId(1, n), ReplyEntry(data=b"x" * size)


def add(log: ReplyLog, *entries: LoggedEntry) -> None:
    for one in entries:
        log.add(one, held_bytes(one[1]))


async def waiting_beyond(log: ReplyLog, count: int) -> asyncio.Task[None]:
    """Somebody who waits for more."""
    waiting = asyncio.create_task(log.wait_beyond(count))
    await asyncio.sleep(0)
    return waiting


@pytest.mark.parametrize(("size", "held"), [(0, 200), (199, 200), (200, 200), (201, 201), (70_000, 70_000)])
def test_an_entry_counts_for_its_data_and_for_something_without_any(size: int, held: int) -> None:
    assert held_bytes(ReplyEntry(data=b"x" * size)) == held


def test_it_is_whole_up_to_its_limit_and_holds_nothing_past_it() -> None:
    log = ReplyLog(2 * LEAST_BYTES)
    first, second, third, fourth = (said(n) for n in range(4))
    add(log, first, second)
    assert (log.is_whole, [*log.entries]) == (True, [first, second])
    add(log, third, fourth)
    assert (log.is_whole, [*log.entries]) == (False, [])


def test_the_data_are_counted_kept_or_not() -> None:
    log = ReplyLog(LEAST_BYTES)
    add(log, said(0, 7), said(1, 500), said(2, 3))
    assert log.bytes == 510


class TestReadingAlong:
    async def test_what_is_there_need_not_be_waited_for(self) -> None:
        log = ReplyLog(10_000)
        add(log, said(0), said(1))
        await asyncio.wait_for(log.wait_beyond(1), 1)

    async def test_each_who_waits_is_woken_by_what_comes_beyond_what_he_has(self) -> None:
        log = ReplyLog(10_000)
        ahead, behind = await waiting_beyond(log, 1), await waiting_beyond(log, 0)
        add(log, said(0))
        await asyncio.wait_for(behind, 1)
        assert not ahead.done()
        add(log, said(1))
        await asyncio.wait_for(ahead, 1)

    async def test_its_end_wakes_all_and_nobody_waits_for_more_afterwards(self) -> None:
        log = ReplyLog(10_000)
        waiting = [await waiting_beyond(log, count) for count in (0, 5)]
        log.close()
        await asyncio.wait_for(asyncio.gather(*waiting), 1)
        assert log.is_closed
        await asyncio.wait_for(log.wait_beyond(9), 1)

    async def test_whoever_reads_what_is_kept_no_more_is_told_at_once(self) -> None:
        log = ReplyLog(LEAST_BYTES)
        waiting = await waiting_beyond(log, 5)
        add(log, said(0), said(1))
        await asyncio.wait_for(waiting, 1)
        await asyncio.wait_for(log.wait_beyond(9), 1)

    async def test_one_who_left_in_the_meantime_harms_nobody(self) -> None:
        log = ReplyLog(10_000)
        left, other = await waiting_beyond(log, 0), await waiting_beyond(log, 0)
        left.cancel()
        add(log, said(0))
        await asyncio.wait_for(other, 1)
        with pytest.raises(asyncio.CancelledError):
            await left
        add(log, said(1))
        assert not log._readers, "nor is anything left of him"
