"""Replies that the broker has forgotten and that their hub may bring back."""

import asyncio

import pytest

from common.wire import EntryId, ReplyEntry, Usage
from provider.replies.reopening import REOPEN_S
from provider.replies.reply import ReplyState
from provider.replies.writer import LOOK_S
from tests.unit.virtual_time import now_s
from tests.unit.writing_node import CLAIM, OTHER, Attempt, Node, at_work

pytestmark = pytest.mark.usefixtures("one_clock")


async def looks_no_more(node: Node) -> None:
    """Whatever it was waited for, nobody asks the broker for it in five seconds."""
    looks = len(node.shelf.looks)
    await asyncio.sleep(5)
    assert len(node.shelf.looks) == looks


class TestWaitingForAHub:
    def test_a_reply_that_is_missing_is_waited_for_while_the_others_go_on(self) -> None:
        async def story(node: Node) -> None:
            missing, other = [await node.claimed(f"r{n}") for n in range(2)]
            await missing.say(b"a")
            node.come_back()
            del node.shelf.replies["r0"]
            missing.reply.put_data(b"b")
            await other.say(b"x", b"y")
            await asyncio.sleep(REOPEN_S - 2)
            missing.reply.put_data(b"c")
            assert node.writer.owes(missing.reply)
            node.shelf.say("r0")
            await asyncio.wait_for(missing.reply.flushed(), LOOK_S * 2)
            assert node.said("r0") == ["1-0 claim", "1-1 a", "1-2 bc"]
            assert node.said("r1") == ["1-0 claim", "1-1 x", "1-2 y"]
            assert (missing.over, other.over) == ([], [])
            looks = len(node.shelf.looks)
            await asyncio.sleep(2)
            assert len(node.shelf.looks) == looks, "it is looked for no more"

        at_work(story)

    def test_an_end_that_came_meanwhile_is_written_as_soon_as_it_is_back(self) -> None:
        async def story(node: Node) -> None:
            attempt = await node.claimed()
            node.come_back()
            del node.shelf.replies["r1"]
            await asyncio.sleep(LOOK_S + 0.01)
            attempt.reply.put(ReplyEntry(end=Usage(1, 2)))
            node.shelf.say("r1")
            assert await asyncio.wait_for(attempt.reply.flushed(), 2 * LOOK_S) is ReplyState.OPEN
            held = node.shelf.replies["r1"]
            assert held == [(EntryId(1, 0), CLAIM), (EntryId(1, 1), ReplyEntry(end=Usage(1, 2)))]

        at_work(story)

    def test_only_those_that_are_missing_are_looked_for_every_now_and_then(self) -> None:
        async def story(node: Node) -> None:
            await node.claimed("r0")
            other = await node.claimed("r1")
            node.come_back()
            del node.shelf.replies["r0"]
            await asyncio.sleep(LOOK_S + 0.01)
            looks = len(node.shelf.looks)
            for _ in range(100):
                await other.say(b"x")
                await asyncio.sleep(0.02)
            later = node.shelf.looks[looks:]
            assert {tuple(looked_at) for _, looked_at in later} == {("r0",)}
            assert 8 <= len(later) <= 11, "five times a second, however much is written"

        at_work(story)

    def test_one_that_nobody_reopens_is_over_after_its_time(self) -> None:
        async def story(node: Node) -> None:
            attempt = await node.claimed()
            node.come_back()
            del node.shelf.replies["r1"]
            began_s = now_s()
            attempt.reply.put_data(b"x")
            assert await attempt.reply.flushed() is ReplyState.GONE
            assert REOPEN_S <= now_s() - began_s <= REOPEN_S + 2 * LOOK_S
            assert attempt.over == [ReplyState.GONE]
            await asyncio.sleep(5)
            assert "r1" not in node.shelf.replies

        at_work(story)

    def test_trouble_in_the_meantime_gives_its_hub_the_whole_time_again(self) -> None:
        async def story(node: Node) -> None:
            attempt = await node.claimed()
            node.come_back()
            del node.shelf.replies["r1"]
            attempt.reply.put_data(b"x")
            await asyncio.sleep(REOPEN_S - 1)
            node.shelf.is_away = True
            await asyncio.sleep(3)
            node.shelf.is_away = False
            began_s = now_s()
            assert await attempt.reply.flushed() is ReplyState.GONE
            assert now_s() - began_s > REOPEN_S - 4

        at_work(story)

    def test_it_counts_for_jobs_that_begin_just_after_the_return_too(self) -> None:
        """Jobs may outlast their replies: these have a time to live, and the broker was away for longer."""

        async def story(node: Node) -> None:
            node.come_back()
            await asyncio.sleep(1)
            attempt = Attempt(node.writer, "r1")
            attempt.reply.put(CLAIM)
            await asyncio.sleep(1)
            assert attempt.over == []
            node.shelf.say("r1")
            assert await asyncio.wait_for(attempt.reply.flushed(), 1) is ReplyState.OPEN
            assert node.said() == ["1-0 claim"]

        at_work(story)

    def test_and_not_for_one_that_was_seen_since(self) -> None:
        async def story(node: Node) -> None:
            seen, silent = [await node.claimed(f"r{n}") for n in range(2)]
            node.come_back()
            await seen.say(b"a")
            for request in ("r0", "r1"):
                del node.shelf.replies[request]
            for attempt in (seen, silent):
                attempt.reply.put_data(b"x")
            await asyncio.sleep(0.01)
            assert (seen.over, silent.over) == ([ReplyState.GONE], [ReplyState.GONE])

        at_work(story)

    def test_a_node_whom_the_broker_has_forgotten_waits_to_be_known_again(self) -> None:
        """It has lost the node's user with the replies, and its hub makes both anew."""

        async def story(node: Node) -> None:
            node.come_back()
            await asyncio.sleep(1)
            attempt = node.open()
            node.shelf.refused.add("r1")
            attempt.reply.put(CLAIM)
            await asyncio.sleep(0.01)
            assert attempt.over == []
            node.shelf.refused.clear()
            assert await asyncio.wait_for(attempt.reply.flushed(), 1) is ReplyState.OPEN

        at_work(story)

    def test_one_that_began_after_the_return_and_goes_is_over_at_once(self) -> None:
        async def story(node: Node) -> None:
            node.come_back()
            await asyncio.sleep(1)
            attempt = await node.claimed()
            del node.shelf.replies["r1"]
            attempt.reply.put_data(b"x")
            assert await asyncio.wait_for(attempt.reply.flushed(), 0.1) is ReplyState.GONE

        at_work(story)

    def test_to_see_that_it_is_missing_again_and_again_wins_it_no_time(self) -> None:
        async def story(node: Node) -> None:
            attempt = await node.claimed()
            node.come_back()
            del node.shelf.replies["r1"]
            began_s = now_s()
            attempt.reply.put_data(b"x")
            while attempt.reply.state is ReplyState.OPEN:
                await asyncio.sleep(2)
                attempt.reply.miss()
            assert now_s() - began_s <= REOPEN_S + 3

        at_work(story)

    @pytest.mark.parametrize("end", [ReplyState.FENCED, ReplyState.LOST, ReplyState.GONE])
    def test_however_it_ends_it_is_looked_for_no_more(self, end: ReplyState) -> None:
        async def story(node: Node) -> None:
            attempt, other = [await node.claimed(f"r{n}") for n in range(2)]
            node.come_back()
            del node.shelf.replies["r0"]
            attempt.reply.put_data(b"x")
            await other.say(b"x")
            if end is ReplyState.FENCED:
                node.shelf.say("r0", (EntryId(2, 0), ReplyEntry(claim=OTHER)))
            elif end is ReplyState.LOST:
                node.shelf.refused.add("r0")
                node.shelf.say("r0")
            assert await attempt.reply.flushed() is end
            await looks_no_more(node)

        at_work(story)

    def test_nor_when_the_broker_was_away_for_too_long_meanwhile(self) -> None:
        async def story(node: Node) -> None:
            attempt, other = [await node.claimed(f"r{n}") for n in range(2)]
            node.come_back()
            del node.shelf.replies["r0"]
            attempt.reply.put_data(b"x")
            await other.say(b"x")
            node.shelf.is_away = True
            assert await attempt.reply.flushed() is ReplyState.LOST
            node.shelf.is_away = False
            await other.say(b"y")
            await looks_no_more(node)

        at_work(story)

    def test_one_that_is_dropped_or_ends_is_waited_for_no_more(self) -> None:
        async def story(node: Node) -> None:
            dropped, ended = [await node.claimed(f"r{n}") for n in range(2)]
            node.come_back()
            node.shelf.replies.clear()
            dropped.reply.put_data(b"x")
            waiting = asyncio.create_task(dropped.reply.flushed())
            await asyncio.sleep(LOOK_S + 0.01)
            dropped.reply.drop()
            assert await asyncio.wait_for(waiting, 0.1) is ReplyState.GONE
            dropped.reply.close()
            ended.reply.close()
            await looks_no_more(node)

        at_work(story)
