"""What a reply has to write again, from the newest entry that the broker has of it."""

import asyncio

import pytest

from common.broker.reconnections import CountedReconnections
from common.types import ModelId, NodeId, RequestId
from common.wire import EntryId, Job, ReplyEntry
from provider.replies.reopening import REOPEN_S, ReopenWindow
from provider.replies.reply import Reply, ReplyState
from tests.unit.virtual_time import in_virtual_time

HERE, ELSEWHERE = NodeId("here"), NodeId("elsewhere")
OPENED = (EntryId(0, 1), {b"open": b"1"})
EARLIER = [(EntryId(1, 0), ReplyEntry(claim=ELSEWHERE)), (EntryId(1, 1), ReplyEntry(data=b"a"))]


class QuietPump:
    """Writes nothing by itself."""

    def notice(self, reply: Reply) -> None: ...

    def owes(self, reply: Reply) -> bool:
        return reply.has_news

    def miss(self, reply: Reply) -> None: ...

    def forget(self, reply: Reply) -> None: ...


def a_reply(attempt: int = 1) -> Reply:
    job = Job(RequestId("r"), attempt, ModelId("m"), "/v1/completions", True, b"{}", "ghub:reply:{h}:r", 0)
    return Reply(QuietPump(), job, "ghub:doorbell:{h}", lambda _: None)


def spoken(attempt: int = 1) -> Reply:
    """Its claim and two events were taken, each in an entry of its own."""
    reply = a_reply(attempt)
    reply.put(ReplyEntry(claim=HERE))
    reply.take()
    for data in (b"1", b"2"):
        reply.put_data(data)
        reply.take()
    return reply


def lacking(reply: Reply, last: EntryId, fields: dict[bytes, bytes]) -> list[str] | None:
    writes = reply.lacking(last, fields)
    return None if writes is None else [str(write.id) for write in writes]


class TestLacking:
    def test_of_a_reply_that_was_opened_anew_everything_is_missing(self) -> None:
        assert lacking(spoken(), *OPENED) == ["1-0", "1-1", "1-2"]

    @pytest.mark.parametrize(("n", "fields", "missing"), [(0, {b"claim": b"here"}, 2), (1, {b"data": b"1"}, 1)])
    def test_what_stands_behind_the_newest_is_missing(self, n: int, fields: dict[bytes, bytes], missing: int) -> None:
        assert len(lacking(spoken(), EntryId(1, n), fields) or []) == missing

    def test_a_whole_one_lacks_nothing(self) -> None:
        assert lacking(spoken(), EntryId(1, 2), {b"data": b"2"}) == []

    def test_what_is_written_again_is_what_was_written(self) -> None:
        writes = spoken().lacking(*OPENED)
        assert writes is not None
        assert [write.entry for write in writes] == [
            ReplyEntry(claim=HERE),
            ReplyEntry(data=b"1"),
            ReplyEntry(data=b"2"),
        ]

    @pytest.mark.parametrize(
        ("last", "fields"),
        [
            (EntryId(2, 0), {b"claim": b"here"}),
            (EntryId(1, 0), {b"claim": b"elsewhere"}),
            (EntryId(1, 2), {b"data": b"3"}),
            (EntryId(1, 3), {b"data": b"3"}),
        ],
        ids=["newer attempt", "claimed by another", "other data", "more than was said"],
    )
    def test_what_this_attempt_did_not_write_was_written_by_another(
        self, last: EntryId, fields: dict[bytes, bytes]
    ) -> None:
        assert lacking(spoken(), last, fields) is None

    @pytest.mark.parametrize(
        ("last", "missing"),
        [(OPENED[0], ["1-0", "1-1", "2-0", "2-1", "2-2"]), (EntryId(1, 0), ["1-1", "2-0", "2-1", "2-2"])],
    )
    def test_what_earlier_attempts_said_comes_first(self, last: EntryId, missing: list[str]) -> None:
        reply = spoken(attempt=2)
        reply.remember(EARLIER)
        assert lacking(reply, last, {}) == missing

    def test_what_a_former_process_said_is_not_ours_to_judge(self) -> None:
        reply = a_reply()
        reply.continue_after(EntryId(1, 6))
        reply.put(ReplyEntry(release="restarted"))
        reply.take()
        assert lacking(reply, EntryId(1, 6), {b"data": b"x"}) == ["1-7"]
        assert lacking(reply, EntryId(1, 7), {b"release": b"restarted"}) == []
        assert lacking(reply, EntryId(1, 7), {b"data": b"x"}) is None


class TestRoom:
    @pytest.mark.parametrize("by_entries", [True, False])
    def test_an_engine_waits_from_the_limit_on_until_what_waits_was_written(self, by_entries: bool) -> None:
        async def story() -> list[bool]:
            reply = a_reply()
            had_room = []
            for size in (60, 39, 1):
                reply.put(ReplyEntry(data=b"x" * size)) if by_entries else reply.put_data(b"x" * size)
                waiting = asyncio.create_task(reply.room(100))
                await asyncio.sleep(1)
                had_room.append(waiting.done())
            reply.take()
            reply.settle(ReplyState.OPEN)
            await asyncio.sleep(1)
            had_room.append(waiting.done())
            reply.put_data(b"x" * 99)
            await asyncio.wait_for(reply.room(100), 1)
            return had_room

        assert in_virtual_time(story()) == [True, True, False, True]

    def test_a_new_one_has_brought_nothing(self) -> None:
        assert (a_reply().events, a_reply().has_news, a_reply().has_spoken, a_reply().said()) == (0, False, False, b"")


class TestDropping:
    def test_nobody_waits_for_a_dropped_one(self) -> None:
        async def story() -> tuple[ReplyState, bool]:
            reply = a_reply()
            reply.put_data(b"x" * 100)
            waiting = asyncio.gather(reply.flushed(), reply.room(10))
            await asyncio.sleep(1)
            was_waiting = not waiting.done()
            reply.drop()
            return (await waiting)[0], was_waiting

        assert in_virtual_time(story()) == (ReplyState.GONE, True)


class TestWindow:
    def test_it_opens_with_a_reconnection_or_trouble_and_closes_by_itself(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 1000.0
        monkeypatch.setattr("provider.replies.reopening.time.monotonic", lambda: now)
        reconnections = CountedReconnections()
        window = ReopenWindow(reconnections)
        assert not window.is_open
        reconnections.count += 1
        assert window.is_open
        now += REOPEN_S - 1
        assert window.is_open
        now += 2
        assert not window.is_open
        window.note_trouble()
        assert window.is_open
        now += REOPEN_S + 1
        assert not window.is_open
