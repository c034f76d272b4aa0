"""Replies: the broker itself is the fence and the deduplicator, and a reader neither misses nor repeats."""

import asyncio
from typing import ClassVar

import pytest

from common.broker.broker import Broker
from common.errors import WireError
from common.streams.replies import ENTRIES_PER_PAGE, Doorbell, ReplyStreams, ReplyWrite, Written
from common.types import HubId, NodeId, RequestId
from common.wire import EntryId, Failure, ReplyEntry, Start, Usage
from tests.contract.story import (
    HUB,
    KEYS,
    NODE,
    a_job,
    all_keys,
    entries_of,
    eventually,
    flush,
    on_real_brokers,
    publish,
    raw,
)

REPLY = a_job("r1").reply
BELL = KEYS.doorbell(HUB)
NOBODY = "nobody"


def a_write(attempt: int, n: int, data: bytes = b"x", request: str = "r1", hub: HubId = HUB) -> ReplyWrite:
    reply = KEYS.reply(hub, RequestId(request))
    return ReplyWrite(reply, KEYS.doorbell(hub), RequestId(request), EntryId(attempt, n), ReplyEntry(data=data))


async def write(broker: Broker, *writes: ReplyWrite) -> list[Written]:
    return await ReplyStreams(broker).write(writes)


async def data_of(broker: Broker, reply: str = REPLY) -> list[bytes]:
    return [entry.data for _, entry in await entries_of(broker, reply)]


class TestWriting:
    async def test_entries_carry_the_attempt_and_count_from_nought(self, broker: Broker) -> None:
        await publish(broker, "r1")
        said = ReplyEntry(start=Start(200, "a/b", NODE), data=b"\x00\xff", end=Usage(1, 2), claim=NODE)
        writes = [a_write(1, 0), ReplyWrite(REPLY, BELL, RequestId("r1"), EntryId(1, 1), said)]
        assert await write(broker, *writes) == [Written.YES] * 2
        assert await entries_of(broker, REPLY) == [("1-0", ReplyEntry(data=b"x")), ("1-1", said)]

    async def test_each_write_of_a_batch_has_its_own_answer(self, broker: Broker) -> None:
        for request in ("r1", "r3"):
            await publish(broker, request)
        await write(broker, a_write(2, 0, request="r3"))
        batch = [a_write(1, 0), a_write(1, 0, request="r2"), a_write(1, 5, request="r3"), a_write(1, 1)]
        assert await write(broker, *batch) == [Written.YES, Written.GONE, Written.FENCED, Written.YES]

    async def test_the_life_of_a_reply_is_not_changed_by_writing(self, broker: Broker) -> None:
        await publish(broker, "r1")
        before = await raw(broker).pttl(REPLY)
        await write(broker, a_write(1, 0))
        assert 0 < await raw(broker).pttl(REPLY) <= before

    async def test_the_newest_entry_is_known(self, broker: Broker) -> None:
        replies = ReplyStreams(broker)
        assert await replies.last_id(REPLY) is None
        await publish(broker, "r1")
        assert await replies.last_id(REPLY) == EntryId(0, 1)
        await write(broker, a_write(1, 0), a_write(1, 1))
        assert await replies.last_id(REPLY) == EntryId(1, 1)

    async def test_of_many_replies_the_newest_entries_are_told_and_which_are_gone(self, broker: Broker) -> None:
        for request in ("r1", "r2"):
            await publish(broker, request)
        await write(broker, a_write(1, 0, b"0"), a_write(1, 1, b"1"))
        asked = [a_job(request).reply for request in ("r1", "gone", "r2")]
        told = [(EntryId(1, 1), {b"data": b"1"}), None, (EntryId(0, 1), {b"open": b"1"})]
        assert await ReplyStreams(broker).newest(asked) == told

    async def test_what_is_no_reply_cannot_be_read_and_hides_none(self, broker: Broker) -> None:
        await publish(broker, "r1")
        await raw(broker).set(a_job("odd").reply, "x")
        asked = [a_job(request).reply for request in ("odd", "r1")]
        assert await ReplyStreams(broker).newest(asked) == [None, (EntryId(0, 1), {b"open": b"1"})]


class TestFence:
    async def test_an_entry_that_comes_twice_is_refused(self, broker: Broker) -> None:
        await publish(broker, "r1")
        await write(broker, a_write(1, 0, b"once"))
        assert await write(broker, a_write(1, 0, b"twice")) == [Written.FENCED]
        assert await data_of(broker) == [b"once"]

    async def test_an_overtaken_attempt_is_refused_from_the_newer_one_s_first_entry_on(self, broker: Broker) -> None:
        await publish(broker, "r1")
        await write(broker, a_write(1, 0, b"old"))
        assert await write(broker, a_write(2, 0, b"new")) == [Written.YES]
        assert await write(broker, a_write(1, 1, b"late"), a_write(1, 2**40, b"later")) == [Written.FENCED] * 2
        assert await write(broker, a_write(2, 1, b"newer")) == [Written.YES]
        assert await data_of(broker) == [b"old", b"new", b"newer"]

    async def test_of_two_attempts_that_race_each_entry_is_in_order(self, broker: Broker) -> None:
        await publish(broker, "r1")
        old = [write(broker, a_write(1, n, b"1-%d" % n)) for n in range(20)]
        new = [write(broker, a_write(2, n, b"2-%d" % n)) for n in range(3)]
        await asyncio.gather(*old, *new)
        ids = [entry_id for entry_id, _ in await entries_of(broker, REPLY)]
        assert ids == sorted(ids, key=lambda one: EntryId.parse(one.encode()))
        assert "2-0" in ids or "2-1" in ids or "2-2" in ids

    async def test_a_batch_written_again_after_a_lost_answer_changes_nothing(self, broker: Broker) -> None:
        await publish(broker, "r1")
        batch = [a_write(1, n, b"%d" % n) for n in range(5)]
        await write(broker, *batch[:3])
        assert await write(broker, *batch) == [Written.FENCED] * 3 + [Written.YES] * 2
        assert await data_of(broker) == [b"0", b"1", b"2", b"3", b"4"]

    async def test_the_fate_of_an_entry_is_known_before_it_is_written(self, broker: Broker) -> None:
        await publish(broker, "r1")
        await write(broker, a_write(2, 0))
        asked = [(REPLY, 1), (REPLY, 2), (REPLY, 3), (a_job("gone").reply, 1)]
        fates = [Written.FENCED, Written.YES, Written.YES, Written.GONE]
        assert await ReplyStreams(broker).fates(asked) == fates


class TestGone:
    async def test_a_reply_that_is_gone_is_not_written_anew(self, broker: Broker) -> None:
        assert await write(broker, a_write(1, 0)) == [Written.GONE]
        assert await all_keys(broker) == set()

    async def test_a_reply_that_was_called_off_stays_gone(self, broker: Broker) -> None:
        await publish(broker, "r1")
        await write(broker, a_write(1, 0))
        await raw(broker).delete(REPLY)
        assert await write(broker, a_write(1, 1)) == [Written.GONE]
        assert REPLY not in await all_keys(broker)


class TestDoorbell:
    async def test_it_is_made_once_and_lives_as_long_as_it_is_kept(self, broker: Broker) -> None:
        bell = Doorbell(broker, HUB)
        await bell.keep(5000)
        assert 0 < await raw(broker).pttl(BELL) <= 5000
        await write(broker, a_write(1, 0))
        await bell.keep(50_000)
        assert await raw(broker).pttl(BELL) > 5000
        assert await raw(broker).xlen(BELL) == 2

    async def test_a_batch_rings_each_hub_once_and_names_each_request_once(self, broker: Broker) -> None:
        bells = {hub: Doorbell(broker, hub) for hub in (HUB, HubId("hub-2"))}
        for bell in bells.values():
            await bell.keep(5000)
        batch = [a_write(1, n, request=f"r{r}", hub=hub) for n in range(3) for r in range(40) for hub in bells]
        await write(broker, *batch)
        for hub, bell in bells.items():
            assert await raw(broker).xlen(KEYS.doorbell(hub)) == 2
            assert await bell.wait() == {f"r{r}" for r in range(40)}

    async def test_a_hub_that_is_gone_is_not_rung(self, broker: Broker) -> None:
        await publish(broker, "r1")
        before = await all_keys(broker)
        assert await write(broker, a_write(1, 0)) == [Written.YES]
        assert await all_keys(broker) == before

    async def test_rings_are_heard_once(self, broker: Broker) -> None:
        bell = Doorbell(broker, HUB)
        await bell.keep(5000)
        await write(broker, a_write(1, 0, request="r1"))
        assert await bell.wait() == {"r1"}
        await write(broker, a_write(1, 0, request="r2"))
        await write(broker, a_write(1, 0, request="r3"))
        assert await bell.wait() == {"r2", "r3"}
        assert await bell.wait(20) == set()

    async def test_all_that_it_still_tells_can_be_heard_again(self, broker: Broker) -> None:
        bell = Doorbell(broker, HUB)
        await bell.keep(5000)
        await write(broker, a_write(1, 0, request="r1"))
        assert await bell.wait() == {"r1"}
        bell.hear_again()
        assert await bell.wait() == {"r1"}

    async def test_who_waits_is_woken_by_a_ring(self, broker: Broker) -> None:
        bell = Doorbell(broker, HUB)
        await bell.keep(5000)
        await bell.wait()
        waiting = asyncio.create_task(bell.wait(20_000))
        await write(broker, a_write(1, 0))
        assert await asyncio.wait_for(waiting, 5) == {"r1"}

    async def test_one_that_was_lost_is_made_anew_and_heard_even_if_the_broker_s_clock_went_back(
        self, broker: Broker
    ) -> None:
        bell = Doorbell(broker, HUB)
        await bell.keep(5000)
        await raw(broker).xadd(BELL, {"ids": "r1"}, id=f"{2**52}-0")
        assert await bell.wait() == {"r1"}
        await flush(broker)
        await bell.keep(5000)
        await write(broker, a_write(1, 0, request="r2"))
        assert await bell.wait() == {"r2"}

    @on_real_brokers
    @pytest.mark.parametrize("maxlen", [None, 0])
    async def test_one_whose_ids_are_used_up_is_made_anew(self, broker: Broker, maxlen: int | None) -> None:
        """Any provider may ring under the highest id there is: no other could ring that hub any more."""
        bell = Doorbell(broker, HUB)
        await bell.keep(5000)
        await raw(broker).xadd(BELL, {"ids": "x"}, id=f"{2**64 - 1}-{2**64 - 1}", maxlen=maxlen, approximate=False)
        await bell.wait(20)
        await bell.keep(5000)
        await write(broker, a_write(1, 0, request="r1"))
        assert await bell.wait(500) == {"r1"}
        assert 0 < await raw(broker).pttl(BELL) <= 5000

    async def test_rubbish_on_the_bell_is_no_reason_to_stop_listening(self, broker: Broker) -> None:
        """Any provider may ring: one that rings nonsense must not take the hub down."""
        bell = Doorbell(broker, HUB)
        await bell.keep(5000)
        await raw(broker).xadd(BELL, {"ids": b"\xff\xfe r1"})
        await raw(broker).xadd(BELL, {"other": "x"})
        assert "r1" in await bell.wait()

    async def test_a_bell_that_nobody_hears_does_not_grow_for_ever(self, broker: Broker) -> None:
        await Doorbell(broker, HUB).keep(50_000)
        for _ in range(70):
            await asyncio.gather(*(write(broker, a_write(1, 0)) for _ in range(20)))
        assert await raw(broker).xlen(BELL) < 1200


class TestReading:
    async def test_only_what_is_newer_comes_and_of_those_asked_for(self, broker: Broker) -> None:
        for request in ("r1", "r2", "r3"):
            await publish(broker, request)
        await write(broker, *(a_write(1, n, b"%d" % n, request) for request in ("r1", "r2", "r3") for n in range(3)))
        r1, r2 = a_job("r1").reply, a_job("r2").reply
        news = await ReplyStreams(broker).read({r1: EntryId(1, 0), r2: EntryId(0, 1)}, 100)
        assert {reply: [(one, entry.data) for one, entry in entries] for reply, entries in news.items()} == {
            r1: [(EntryId(1, 1), b"1"), (EntryId(1, 2), b"2")],
            r2: [(EntryId(1, 0), b"0"), (EntryId(1, 1), b"1"), (EntryId(1, 2), b"2")],
        }

    async def test_nothing_new_is_no_answer(self, broker: Broker) -> None:
        await publish(broker, "r1")
        assert await ReplyStreams(broker).read({REPLY: EntryId(0, 1), a_job("gone").reply: EntryId(0, 1)}, 100) == {}

    async def test_a_long_reply_is_read_piece_by_piece(self, broker: Broker) -> None:
        await publish(broker, "r1")
        await publish(broker, "r2")
        await write(broker, *(a_write(1, n, request=request) for request in ("r1", "r2") for n in range(10)))
        last = {a_job(request).reply: EntryId(0, 1) for request in ("r1", "r2")}
        seen: dict[str, list[EntryId]] = {reply: [] for reply in last}
        while news := await ReplyStreams(broker).read(last, 4):
            for reply, entries in news.items():
                assert len(entries) <= 4
                seen[reply] += [one for one, _ in entries]
                last[reply] = seen[reply][-1]
        assert seen == {reply: [EntryId(1, n) for n in range(10)] for reply in last}

    async def test_the_hub_s_own_opening_entry_is_not_news(self, broker: Broker) -> None:
        await publish(broker, "r1")
        await write(broker, a_write(1, 0))
        news = await ReplyStreams(broker).read({REPLY: EntryId(0, 1)}, 100)
        assert [one for one, _ in news[REPLY]] == [EntryId(1, 0)]

    async def test_reading_on_across_attempts_misses_and_repeats_nothing(self, broker: Broker) -> None:
        await publish(broker, "r1")
        seen, last = [], EntryId(0, 1)
        for one in (EntryId(1, 0), EntryId(1, 1), EntryId(2, 0), EntryId(2, 1), EntryId(10, 0)):
            await write(broker, a_write(*one))
            news = await ReplyStreams(broker).read({REPLY: last}, 100)
            seen += [entry_id for entry_id, _ in news[REPLY]]
            last = seen[-1]
        assert seen == [EntryId(1, 0), EntryId(1, 1), EntryId(2, 0), EntryId(2, 1), EntryId(10, 0)]

    async def test_an_error_travels_whole(self, broker: Broker) -> None:
        await publish(broker, "r1")
        failure = Failure(502, "engine_error", "naïve 模型\n", retryable=True, type="t", param="p")
        error = ReplyWrite(REPLY, BELL, RequestId("r1"), EntryId(1, 0), ReplyEntry(error=failure))
        await write(broker, error)
        assert await entries_of(broker, REPLY) == [("1-0", ReplyEntry(error=failure))]

    async def test_one_that_cannot_be_read_is_told_with_its_reason_and_hides_none(self, broker: Broker) -> None:
        for request in ("r1", "r2"):
            await publish(broker, request)
        await raw(broker).xadd(REPLY, {"start": "rubbish"}, id="1-0")
        await write(broker, a_write(1, 0, request="r2"))
        other = a_job("r2").reply
        news = await ReplyStreams(broker).read({REPLY: EntryId(0, 1), other: EntryId(0, 1)}, 100)
        assert isinstance(news[REPLY], WireError)
        assert news[other] == [(EntryId(1, 0), ReplyEntry(data=b"x"))]


class TestEarlierAttempts:
    @pytest.mark.parametrize("count", [1, ENTRIES_PER_PAGE - 1, ENTRIES_PER_PAGE, 2 * ENTRIES_PER_PAGE + 1])
    async def test_all_that_they_said_is_read_however_long_it_is(self, broker: Broker, count: int) -> None:
        await publish(broker, "r1")
        said = [a_write(1, n, b"%d" % n) for n in range(count)]
        await write(broker, *said, a_write(2, 0, b"second"), a_write(3, 0, b"third"))
        found = await ReplyStreams(broker).before(REPLY, 3)
        assert found == [(one.id, one.entry) for one in said] + [(EntryId(2, 0), ReplyEntry(data=b"second"))]

    async def test_before_the_first_there_is_none(self, broker: Broker) -> None:
        await publish(broker, "r1")
        await write(broker, a_write(1, 0))
        assert await ReplyStreams(broker).before(REPLY, 1) == []
        assert await ReplyStreams(broker).before(a_job("gone").reply, 2) == []


class TestGivingBack:
    ENTRIES: ClassVar = [(EntryId(1, 0), ReplyEntry(claim=NODE)), (EntryId(1, 1), ReplyEntry(data=b"a", end=Usage(1)))]

    async def test_a_lost_reply_is_as_it_was_and_lives_as_long(self, broker: Broker) -> None:
        assert await ReplyStreams(broker).restore(REPLY, self.ENTRIES, 50_000)
        assert await entries_of(broker, REPLY) == [(str(one), entry) for one, entry in self.ENTRIES]
        assert (await raw(broker).xrange(REPLY, count=1))[0][0] == b"0-1"
        assert 40_000 < await raw(broker).pttl(REPLY) <= 50_000
        assert await write(broker, a_write(1, 1), a_write(1, 2)) == [Written.FENCED, Written.YES]

    async def test_what_is_there_is_passed_over(self, broker: Broker) -> None:
        await publish(broker, "r1")
        await write(broker, a_write(1, 0, b"first"))
        assert not await ReplyStreams(broker).restore(REPLY, self.ENTRIES, 50_000)
        assert await entries_of(broker, REPLY) == [("1-0", ReplyEntry(data=b"first")), ("1-1", self.ENTRIES[1][1])]

    async def test_one_of_which_nothing_is_known_is_opened(self, broker: Broker) -> None:
        assert await ReplyStreams(broker).restore(REPLY, [], 50_000)
        assert await ReplyStreams(broker).last_ids([REPLY]) == [EntryId(0, 1)]

    async def test_how_far_each_of_many_is_and_which_are_gone(self, broker: Broker) -> None:
        for request in ("r1", "r2"):
            await publish(broker, request)
        await write(broker, a_write(1, 0), a_write(1, 1))
        asked = [a_job(request).reply for request in ("r1", "gone", "r2")]
        assert await ReplyStreams(broker).last_ids(asked) == [EntryId(1, 1), None, EntryId(0, 1)]


class TestKeeping:
    async def test_kept_replies_live_on_and_those_that_are_gone_are_told(self, broker: Broker) -> None:
        for request in ("r1", "r2"):
            await publish(broker, request)
        asked = [a_job(request).reply for request in ("r1", "gone", "r2")]
        assert await ReplyStreams(broker).keep(asked, 300_000) == [True, False, True]
        assert await raw(broker).pttl(REPLY) > 200_000
        assert a_job("gone").reply not in await all_keys(broker)

    @pytest.mark.parametrize("node", [NodeId("n"), NodeId("naïve")])
    async def test_a_reply_outlives_its_hub_for_so_long_and_no_longer(self, broker: Broker, node: NodeId) -> None:
        await publish(broker, "r1")
        await ReplyStreams(broker).keep([REPLY], 30)

        async def has_ended() -> bool:
            return not await raw(broker).exists(REPLY)

        await eventually(has_ended, "the reply has ended")
        claim = ReplyWrite(REPLY, BELL, RequestId("r1"), EntryId(1, 0), ReplyEntry(claim=node))
        assert await write(broker, claim) == [Written.GONE]
