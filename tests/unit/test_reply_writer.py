"""The provider's ReplyWriter in a time of its own: its pace, and what a broker that forgets is told again, and when."""

import asyncio
import time

import pytest

from common.types import RequestId
from common.wire import EntryId, ReplyEntry, Usage
from provider.replies.reply import ReplyState
from tests.unit.virtual_time import now_s
from tests.unit.writing_node import GRACE_S, NODE, OTHER, Node, at_work

pytestmark = pytest.mark.usefixtures("one_clock")


class TestPace:
    def test_after_a_rest_what_is_said_goes_out_at_once(self) -> None:
        async def story(node: Node) -> None:
            attempt = await node.claimed()
            await asyncio.sleep(1)
            began_s = now_s()
            await attempt.say(b"a", b"b", b"c", b"d")
            assert now_s() == began_s

        at_work(story, flush_gap_ms=100)

    @pytest.mark.parametrize(("replies", "part"), [(1, 5 / 16), (4, 1 / 2), (12, 1), (30, 1)])
    def test_under_load_writes_keep_the_gap_and_less_of_it_where_few_replies_speak(
        self, replies: int, part: float
    ) -> None:
        async def story(node: Node) -> None:
            attempts = [node.open(f"r{n}") for n in range(replies)]
            began_s = now_s()
            for n in range(60):
                await asyncio.gather(*(attempt.say(b"%d" % n) for attempt in attempts))
            times = [time_s for time_s, _ in node.shelf.writes]
            assert len(times) == 60, "all of them together each time"
            assert times[-1] - times[-2] == pytest.approx(0.1 * part)
            assert times[-1] - began_s == pytest.approx(59 * 0.1 * part - 0.4), "four gaps were free at first"

        at_work(story, flush_gap_ms=100)

    def test_what_comes_while_a_write_is_under_way_becomes_one_entry(self) -> None:
        async def story(node: Node) -> None:
            attempt = await node.claimed()
            node.shelf.write_takes_s = 0.05
            for letter in b"abcdef":
                attempt.reply.put_data(bytes([letter]))
                await asyncio.sleep(0.015)
            attempt.reply.put(ReplyEntry(end=Usage(1, 2)))
            assert await attempt.reply.flushed() is ReplyState.OPEN
            assert node.said() == ["1-0 claim", "1-1 a", "1-2 bcd", "1-3 ef"]

        at_work(story)

    def test_an_engine_waits_for_room_until_its_words_are_taken(self) -> None:
        async def story(node: Node) -> None:
            attempt = await node.claimed()
            node.shelf.write_takes_s = 0.05
            attempt.reply.put_data(b"x" * 99)
            await attempt.reply.room(100)
            attempt.reply.put_data(b"x")
            attempt.reply.put_data(b"y" * 100)
            began_s = now_s()
            await attempt.reply.room(100)
            assert now_s() - began_s < 0.06
            assert attempt.reply.said() == b"x" * 100 + b"y" * 100

        at_work(story)

    def test_a_short_answer_is_one_entry_and_its_hub_is_rung(self) -> None:
        async def story(node: Node) -> None:
            attempt = node.open()
            assert await attempt.reply.flushed() is ReplyState.OPEN, "nothing was said yet"
            attempt.reply.put(ReplyEntry(claim=NODE, data=b"a"))
            attempt.reply.put_data(b"b")
            attempt.reply.put(ReplyEntry(end=Usage(1, 2)))
            assert await attempt.reply.flushed() is ReplyState.OPEN
            assert node.shelf.replies["r1"] == [(EntryId(1, 0), ReplyEntry(claim=NODE, data=b"ab", end=Usage(1, 2)))]
            assert node.shelf.rung == {("bell", RequestId("r1"))}

        at_work(story)


class TestEnds:
    def test_each_end_is_told_once_and_the_others_go_on(self) -> None:
        async def story(node: Node) -> None:
            gone, fenced, refused, other = [await node.claimed(f"r{n}") for n in range(4)]
            del node.shelf.replies["r0"]
            node.shelf.say("r1", (EntryId(2, 0), ReplyEntry(claim=OTHER)))
            node.shelf.refused.add("r2")
            for _ in range(3):
                for attempt in (gone, fenced, refused, other):
                    attempt.reply.put_data(b"x")
                await asyncio.sleep(0.01)
            states = [await attempt.reply.flushed() for attempt in (gone, fenced, refused, other)]
            assert states == [ReplyState.GONE, ReplyState.FENCED, ReplyState.LOST, ReplyState.OPEN]
            assert (gone.over, fenced.over, refused.over, other.over) == ([states[0]], [states[1]], [states[2]], [])
            assert len(node.said("r3")) == 4
            assert len(node.shelf.writes) == 4 + 3, "and nothing is written to those that are over"
            assert node.shelf.writes[-1][1] == ["r3 1-3"]

        at_work(story)

    def test_a_job_that_has_ended_is_forgotten_with_what_it_had_not_said(self) -> None:
        async def story(node: Node) -> None:
            ended, other = await node.claimed("r1"), await node.claimed("r2")
            ended.reply.put_data(b"x")
            ended.reply.close()
            assert not node.writer.owes(ended.reply)
            node.come_back()
            await other.say(b"y")
            assert node.said("r1") == ["1-0 claim"]
            assert [looked_at for _, looked_at in node.shelf.looks] == [["r2"]]

        at_work(story)

    def test_somebody_else_sees_that_it_is_gone(self) -> None:
        """Its job looks now and then whether its request is over, and says what it sees."""

        async def story(node: Node) -> None:
            spoken, silent = await node.claimed("r1"), node.open("r2")
            for attempt in (spoken, silent):
                attempt.reply.miss()
            assert (spoken.over, silent.over) == ([ReplyState.GONE], []), "one that has said nothing learns it itself"

        at_work(story)


class TestLostAnswers:
    @pytest.mark.parametrize("losses", [1, 3])
    def test_what_was_written_and_not_heard_of_is_there_once(self, losses: int) -> None:
        async def story(node: Node) -> None:
            speaking, quiet = await node.claimed("r1"), await node.claimed("r2")
            node.shelf.answers_to_lose = losses
            await speaking.say(b"a", b"b", b"c", b"d")
            assert node.said("r1") == ["1-0 claim", "1-1 a", "1-2 b", "1-3 c", "1-4 d"]
            assert [sorted(looked_at) for _, looked_at in node.shelf.looks] == [["r1", "r2"]] * losses
            assert quiet.over == []

        at_work(story)

    def test_one_that_was_overtaken_meanwhile_is_told(self) -> None:
        async def story(node: Node) -> None:
            attempt = await node.claimed()
            node.shelf.answers_to_lose = 1
            node.shelf.say("r1", (EntryId(2, 0), ReplyEntry(claim=OTHER)))
            attempt.reply.put_data(b"late")
            assert await attempt.reply.flushed() is ReplyState.FENCED
            assert attempt.over == [ReplyState.FENCED]

        at_work(story)


class TestABrokerThatIsAway:
    def test_within_the_grace_nothing_is_lost(self) -> None:
        async def story(node: Node) -> None:
            attempt = await node.claimed()
            node.shelf.is_away = True
            attempt.reply.put_data(b"a")
            await asyncio.sleep(GRACE_S - 3)
            attempt.reply.put_data(b"b")
            node.shelf.is_away = False
            assert await attempt.reply.flushed() is ReplyState.OPEN
            assert node.said() == ["1-0 claim", "1-1 a", "1-2 b"]
            assert attempt.over == []

        at_work(story)

    def test_a_short_absence_costs_hardly_more_than_it_takes(self) -> None:
        async def story(node: Node) -> None:
            attempt = await node.claimed()
            node.shelf.is_away = True
            attempt.reply.put_data(b"a")
            await asyncio.sleep(0.1)
            node.shelf.is_away = False
            await asyncio.wait_for(attempt.reply.flushed(), 0.3)

        at_work(story)

    def test_the_grace_is_the_same_where_the_connection_broke_before_anything_was_said(self) -> None:
        async def story(node: Node) -> None:
            attempt, other = [await node.claimed(f"r{n}") for n in range(2)]
            node.come_back()
            node.shelf.is_away = True
            attempt.reply.put_data(b"a")
            assert await attempt.reply.flushed() is ReplyState.LOST
            node.shelf.is_away = False
            await other.say(b"b")

        at_work(story)

    def test_past_it_those_are_lost_that_owe_something_and_it_works_on(self) -> None:
        async def story(node: Node) -> None:
            owing, also, quiet = [await node.claimed(f"r{n}") for n in range(3)]
            node.shelf.is_away = True
            owing.reply.put_data(b"a")
            await asyncio.sleep(1)
            also.reply.put_data(b"b")
            began_s = now_s() - 1
            states = await asyncio.gather(owing.reply.flushed(), also.reply.flushed())
            assert states == [ReplyState.LOST] * 2
            assert GRACE_S - 2 <= now_s() - began_s <= GRACE_S
            assert (owing.over, also.over, quiet.over) == ([ReplyState.LOST], [ReplyState.LOST], [])
            assert not node.writer.owes(owing.reply)
            node.shelf.is_away = False
            node.shelf.replies["r2"] = []
            await quiet.say(b"c")
            assert node.said("r2") == ["1-0 claim", "1-1 c"], "it looks first, as nobody knows what was forgotten"
            assert node.said("r0") == ["1-0 claim"], "an answer with a hole in it"

        at_work(story)


def test_the_time_of_its_first_data_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """From it tokens a second are counted: when the first words came, not the last, nor the claim."""

    async def story(node: Node) -> None:
        attempt = await node.claimed()
        assert attempt.reply.first_data_at == 0
        times = iter([7.0, 9.0])
        monkeypatch.setattr(time, "monotonic", lambda: next(times))
        for data in (b"a", b"b"):
            attempt.reply.put(ReplyEntry(data=data))
        assert attempt.reply.first_data_at == 7

    at_work(story)
