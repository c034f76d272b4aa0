"""The provider's ReplyWriter in a time of its own: its pace, and what a broker that forgets is told again, and when."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import cast

import pytest

from common.broker.reconnections import CountedReconnections
from common.streams.replies import ReplyStreams
from common.types import ModelId, NodeId, RequestId
from common.wire import EntryId, Job, ReplyEntry, Usage
from provider.replies import reopening
from provider.replies.reopening import REOPEN_S, ReopenWindow
from provider.replies.replay import ENTRIES_PER_REPLAY
from provider.replies.reply import Reply, ReplyState
from provider.replies.writer import LOOK_S, ReplyWriter
from tests.unit.reply_shelf import Shelf
from tests.unit.virtual_time import in_virtual_time, now_s

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


@pytest.fixture(autouse=True)
def _one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reopening, "time", SimpleNamespace(monotonic=now_s))


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
            looks = len(node.shelf.looks)
            await asyncio.sleep(5)
            assert len(node.shelf.looks) == looks

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
            looks = len(node.shelf.looks)
            await asyncio.sleep(5)
            assert len(node.shelf.looks) == looks

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
            looks = len(node.shelf.looks)
            await asyncio.sleep(5)
            assert len(node.shelf.looks) == looks

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
