"""What a provider writes again when its connection to the broker was made anew."""

import asyncio

import pytest

from common.wire import EntryId, ReplyEntry
from provider.replies.replay import ENTRIES_PER_REPLAY
from provider.replies.reply import ReplyState
from provider.replies.writer import LOOK_S
from tests.unit.writing_node import CLAIM, OTHER, Node, at_work

pytestmark = pytest.mark.usefixtures("one_clock")


class TestAConnectionMadeAnew:
    def test_what_it_forgot_comes_before_anything_new(self) -> None:
        async def story(node: Node) -> None:
            attempt = await node.claimed()
            await attempt.say(b"a", b"b")
            node.come_back()
            node.shelf.replies["r1"] = [(EntryId(1, 0), CLAIM)]
            await attempt.say(b"c")
            assert node.said() == ["1-0 claim", "1-1 a", "1-2 b", "1-3 c"]
            assert [ids for _, ids in node.shelf.writes[-2:]] == [["r1 1-1", "r1 1-2"], ["r1 1-3"]]

        at_work(story)

    def test_one_that_says_nothing_is_made_whole_too_and_soon(self) -> None:
        async def story(node: Node) -> None:
            attempt = await node.claimed()
            await attempt.say(b"a")
            node.come_back()
            node.shelf.replies["r1"] = []
            await asyncio.sleep(LOOK_S + 0.01)
            assert node.said() == ["1-0 claim", "1-1 a"]
            looks = len(node.shelf.looks)
            await asyncio.sleep(10)
            assert len(node.shelf.looks) == looks, "and then it is known to be whole"

        at_work(story)

    @pytest.mark.parametrize("lost", [0, 2])
    def test_a_write_that_meets_it_writes_nothing_until_all_was_looked_at(self, lost: int) -> None:
        """The broker would take what comes next, and what it forgot could never be put in its place again."""

        async def story(node: Node) -> None:
            attempt = await node.claimed()
            await attempt.say(b"a", b"b")

            def forget() -> None:
                node.come_back()
                node.shelf.replies["r1"] = [(EntryId(1, 0), CLAIM)]

            if lost:
                node.come_back()  # it has to be made whole, and on the way of that the connection breaks again
                node.shelf.replies["r1"] = [(EntryId(1, 0), CLAIM), (EntryId(1, 1), ReplyEntry(data=b"a"))]
            node.shelf.on_write = forget
            await attempt.say(b"c")
            assert node.said() == ["1-0 claim", "1-1 a", "1-2 b", "1-3 c"]

        at_work(story)

    def test_very_much_is_written_in_parts(self) -> None:
        async def story(node: Node) -> None:
            attempt = node.open()
            said = [b"%d" % n for n in range(2 * ENTRIES_PER_REPLAY + 1)]
            await attempt.say(*said)
            node.come_back()
            node.shelf.replies["r1"] = []
            await asyncio.sleep(LOOK_S + 0.01)
            assert node.said() == [f"1-{n} {n}" for n in range(len(said))]
            assert [len(ids) for _, ids in node.shelf.writes[-3:]] == [ENTRIES_PER_REPLAY, ENTRIES_PER_REPLAY, 1]

        at_work(story)

    def test_one_that_is_made_anew_while_all_are_looked_at_has_them_looked_at_again(self) -> None:
        async def story(node: Node) -> None:
            attempts = [await node.claimed(f"r{n}") for n in range(2)]
            for attempt in attempts:
                await attempt.say(b"a")
            node.come_back()
            node.shelf.replies["r0"] = []
            node.shelf.write_takes_s = 0.1
            attempts[0].reply.put_data(b"b")
            await asyncio.sleep(0.05)
            node.come_back()
            node.shelf.replies["r1"] = []
            assert await attempts[0].reply.flushed() is ReplyState.OPEN
            assert node.said("r0") == ["1-0 claim", "1-1 a", "1-2 b"]
            assert node.said("r1") == ["1-0 claim", "1-1 a"]

        at_work(story)

    def test_one_that_takes_nothing_more_is_lost_and_the_others_are_not(self) -> None:
        async def story(node: Node) -> None:
            refused, other = [await node.claimed(f"r{n}") for n in range(2)]
            node.come_back()
            for request in ("r0", "r1"):
                node.shelf.replies[request] = []
            node.shelf.refused.add("r0")
            await asyncio.sleep(LOOK_S + 0.01)
            assert (refused.over, other.over) == ([ReplyState.LOST], [])
            assert node.said("r1") == ["1-0 claim"]

        at_work(story)

    def test_the_one_whose_claim_stands_there_has_it(self) -> None:
        async def story(node: Node) -> None:
            attempt, other = [await node.claimed(f"r{n}") for n in range(2)]
            node.come_back()
            node.shelf.replies["r0"] = [(EntryId(1, 0), ReplyEntry(claim=OTHER))]
            await asyncio.sleep(LOOK_S + 0.01)
            assert (attempt.over, other.over) == ([ReplyState.FENCED], [])
            await other.say(b"x")

        at_work(story)
