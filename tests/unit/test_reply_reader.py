"""The hub's ReplyReader in a time of its own: how soon news comes, what is kept, and what a broker gets back."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from common.broker.reconnections import CountedReconnections
from common.errors import BrokerUnavailable, WireError
from common.streams.replies import Doorbell, ReplyStreams
from common.succession import LoggedEntry
from common.types import RequestId
from common.wire import EntryId, ReplyEntry
from hub.relay.inbox import Inbox
from hub.relay.reader import ReplyReader
from tests.unit.reply_shelf import Bell, Shelf
from tests.unit.virtual_time import in_virtual_time, now_s, pass_time

TTL_MS = 60_000


class Hub:
    """A reader at work and the broker it reads."""

    def __init__(self, *, ttl_ms: int = TTL_MS, inbox_bytes: int = 100_000) -> None:
        self.shelf = Shelf()
        self.bell = Bell(self.shelf)
        self.reconnections = CountedReconnections()
        self.reader = ReplyReader(
            cast("Doorbell", self.bell),
            cast("ReplyStreams", self.shelf),
            reply_ttl_ms=ttl_ms,
            inbox_bytes=inbox_bytes,
            reconnections=self.reconnections,
        )

    def open(self, request: str, **options: Any) -> Inbox:
        """Begin to read a reply that is open in the broker."""
        self.shelf.say(request)
        return self.reader.open(RequestId(request), request, **options)

    def follow(self, request: str, log_bytes: int = 100_000) -> Inbox:
        self.shelf.say(request)
        return self.reader.follow(RequestId(request), request, log_bytes=log_bytes)


def told(begin: int, end: int, *, attempt: int = 1, size: int = 1) -> list[LoggedEntry]:
    """Entries of an attempt."""
    return [(EntryId(attempt, n), ReplyEntry(data=b"x" * size)) for n in range(begin, end)]


def at_work(story: Callable[[Hub], Awaitable[None]], *, is_away: bool = False, **options: int) -> None:
    """Tell a story beside a reader at work."""

    async def whole() -> None:
        hub = Hub(**options)
        hub.shelf.is_away = is_away
        tasks = [asyncio.create_task(one) for one in (hub.reader.run(), hub.reader.keep(), hub.reader.tick())]
        await asyncio.sleep(0)
        await story(hub)
        assert not [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()

    in_virtual_time(whole())


def held(inbox: Inbox) -> list[LoggedEntry]:
    return [*inbox.log.entries]


class TestNews:
    def test_a_ring_brings_it_at_once_and_a_lost_ring_within_a_second(self) -> None:
        async def story(hub: Hub) -> None:
            inbox = hub.open("r1")
            await asyncio.sleep(0.3)
            hub.shelf.say("r1", *told(0, 2))
            await hub.bell.ring("r1", "of another hub's past")
            await asyncio.sleep(0.001)
            assert inbox.take() == told(0, 2)
            hub.shelf.say("r1", *told(2, 3))
            await asyncio.sleep(0.6)
            assert inbox.take() == []
            await asyncio.sleep(0.2)
            assert inbox.take() == told(2, 3)
            hub.shelf.say("r1", *told(3, 4))
            await asyncio.sleep(1.01)
            assert inbox.take() == told(3, 4), "and every second anew"

        at_work(story)

    def test_it_looks_at_all_though_the_bell_rings_all_the_time(self) -> None:
        async def story(hub: Hub) -> None:
            inbox = hub.open("r1")
            hub.open("r2")
            hub.shelf.say("r1", *told(0, 1))
            for _ in range(12):
                await hub.bell.ring("r2")
                await asyncio.sleep(0.1)
            assert inbox.take() == told(0, 1)

        at_work(story)

    def test_a_hub_that_has_nothing_to_do_asks_once_a_second(self) -> None:
        async def story(hub: Hub) -> None:
            hub.open("r1")
            await asyncio.sleep(10.5)
            assert hub.bell.waits == 11
            assert len(hub.shelf.reads) == 10

        at_work(story)

    def test_a_ring_for_a_reply_that_is_not_opened_yet_wakes_its_handler(self) -> None:
        """Its turn may have come: that is told on the same bell."""

        async def story(hub: Hub) -> None:
            unborn, born = hub.open("r1"), hub.open("r2")
            unborn.is_unborn = True
            waiting = asyncio.create_task(unborn.wait())
            await asyncio.sleep(0)
            await hub.bell.ring("r1", "r2")
            await asyncio.wait_for(waiting, 0.01)
            assert (unborn.was_rung, born.was_rung) == (True, False)

        at_work(story)

    def test_two_who_read_the_same_reply_hear_all_of_it_each(self) -> None:
        async def story(hub: Hub) -> None:
            own, followed = hub.open("r1"), hub.follow("r1")
            assert hub.reader.open_count == 1
            hub.shelf.say("r1", *told(0, 40))
            await hub.bell.ring("r1")
            await asyncio.sleep(0.001)
            assert own.take() == followed.take() == told(0, 40)
            hub.reader.close(own)
            hub.reader.close(own)
            hub.shelf.say("r1", *told(40, 41))
            await hub.bell.ring("r1")
            await asyncio.sleep(0.001)
            assert (own.take(), followed.take()) == ([], told(40, 41))
            hub.reader.close(followed)
            hub.reader.close(followed)
            assert hub.reader.open_count == 0

        at_work(story)

    def test_an_unreadable_reply_wakes_its_handler_and_hides_none(self) -> None:
        async def story(hub: Hub) -> None:
            garbled, other = hub.open("r1"), hub.open("r2")
            waiting = asyncio.create_task(garbled.wait())
            hub.shelf.replies["r1"] = WireError("rubbish")
            hub.shelf.say("r2", *told(0, 1))
            await hub.bell.ring("r1", "r2")
            await asyncio.wait_for(waiting, 0.01)
            assert (garbled.is_lost, other.is_lost) == (True, False)
            hub.shelf.say("r2", *told(1, 2))
            await hub.reader.fetch([garbled, other])
            assert other.take() == told(0, 2)

        at_work(story)

    def test_a_read_takes_a_hundred_replies_and_sixteen_entries_of_each(self) -> None:
        async def story(hub: Hub) -> None:
            inboxes = [hub.open(f"r{n}") for n in range(250)]
            for inbox in inboxes:
                hub.shelf.say(inbox.reply, *told(0, 17))
            await hub.reader.fetch(inboxes)
            assert all(inbox.take() == told(0, 17) for inbox in inboxes)
            assert hub.shelf.reads == [(100, 16), (100, 16), (50, 16)] * 2

        at_work(story)


class TestClientsThatAreBehind:
    def test_what_is_too_much_stays_at_the_broker_until_they_have_read(self) -> None:
        async def story(hub: Hub) -> None:
            slow, quick = hub.open("r1"), hub.open("r2")
            for inbox in (slow, quick):
                hub.shelf.say(inbox.reply, *told(0, 16, size=1000))
            await hub.reader.fetch([slow, quick])
            quick.take()
            for inbox in (slow, quick):
                hub.shelf.say(inbox.reply, *told(16, 18, size=1000))
            await hub.reader.fetch([slow, quick])
            assert (slow.was_skipped, quick.was_skipped) == (True, False)
            assert slow.take() == told(0, 16, size=1000)
            assert quick.take() == told(16, 18, size=1000)
            await hub.reader.fetch([slow])
            assert not slow.was_skipped
            assert slow.take() == told(16, 18, size=1000)

        at_work(story, inbox_bytes=16_000)

    def test_one_that_says_without_end_is_read_on_after_the_others_had_their_turn(self) -> None:
        async def story(hub: Hub) -> None:
            endless, longer = hub.open("r1"), hub.open("r2")
            hub.shelf.say("r1", *told(0, 16 * 16))
            hub.shelf.say("r2", *told(0, 16 * 16 - 1))
            waiting = asyncio.create_task(endless.wait())
            await hub.reader.fetch([endless, longer])
            await asyncio.wait_for(waiting, 0.01)
            assert (endless.was_skipped, longer.was_skipped) == (True, False)
            assert endless.take() == told(0, 16 * 16), "and nothing of it is lost meanwhile"

        at_work(story, inbox_bytes=1_000_000)


class TestKeeping:
    @pytest.mark.parametrize(("ttl_ms", "gap_s"), [(60_000, 5), (6_000, 2)])
    def test_open_replies_are_renewed_three_times_within_their_life(self, ttl_ms: int, gap_s: float) -> None:
        async def story(hub: Hub) -> None:
            for request in ("r1", "r2"):
                hub.open(request)
            await asyncio.sleep(10.1)
            times = [gap_s * n for n in range(1, int(10 / gap_s) + 1)]
            assert hub.shelf.kept == [(time_s, ("r1", "r2"), ttl_ms) for time_s in times]

        at_work(story, ttl_ms=ttl_ms)

    def test_what_another_hub_looks_after_and_what_is_not_opened_yet_is_not(self) -> None:
        async def story(hub: Hub) -> None:
            followed, unborn = hub.follow("r1"), hub.open("r2")
            unborn.is_unborn = True
            hub.shelf.replies.clear()
            await asyncio.sleep(6)
            assert hub.shelf.kept == []
            hub.open("r3")
            await asyncio.sleep(5)
            assert [replies for _, replies, _ in hub.shelf.kept] == [("r3",)]
            assert (followed.was_shaken, unborn.was_shaken) == (False, False)

        at_work(story)

    def test_one_that_is_gone_is_given_back_whole(self) -> None:
        async def story(hub: Hub) -> None:
            lost, other = hub.open("r1"), hub.open("r2")
            hub.shelf.say("r1", *told(0, 3))
            await hub.bell.ring("r1")
            await asyncio.sleep(0.001)
            del hub.shelf.replies["r1"]
            await asyncio.sleep(5)
            assert hub.shelf.replies["r1"] == told(0, 3)
            assert (lost.was_shaken, other.was_shaken) == (True, False)
            assert hub.shelf.restored == ["r1"]

        at_work(story)

    def test_a_broker_that_is_away_for_a_round_is_asked_again(self) -> None:
        async def story(hub: Hub) -> None:
            hub.open("r1")
            hub.shelf.is_away = True
            await asyncio.sleep(6)
            hub.shelf.is_away = False
            await asyncio.sleep(4.5)
            assert [time_s for time_s, _, _ in hub.shelf.kept] == [10]

        at_work(story)

    def test_whoever_wants_to_know_is_told_and_the_reply_given_back(self) -> None:
        async def story(hub: Hub) -> None:
            there, gone = hub.open("r1"), hub.open("r2")
            for request in ("r1", "r2"):
                hub.shelf.say(request, *told(0, 2))
            await hub.reader.fetch([there, gone])
            del hub.shelf.replies["r2"]
            for inbox in (there, gone):
                await hub.reader.check(inbox)
            assert (there.was_shaken, gone.was_shaken) == (False, True)
            assert hub.shelf.replies["r2"] == told(0, 2)
            hub.shelf.is_away = True
            with pytest.raises(BrokerUnavailable):
                await hub.reader.check(there)

        at_work(story)


def cut(hub: Hub) -> None:
    """A connection was lost and is made again."""
    hub.reconnections.count += 1


def slept(_: Hub) -> None:
    """This machine was asleep, and others may have taken the hub for dead."""
    pass_time(3)


async def away(hub: Hub) -> None:
    """The broker cannot be reached for a while."""
    hub.shelf.is_away = True
    await asyncio.sleep(3)
    hub.shelf.is_away = False


class TestABrokerThatMayHaveForgotten:
    @pytest.mark.parametrize("trouble", [cut, slept, away])
    def test_replies_are_looked_at_and_what_is_missing_is_given_back(
        self, trouble: Callable[[Hub], Awaitable[None] | None]
    ) -> None:
        async def story(hub: Hub) -> None:
            inboxes = {name: hub.open(name) for name in ("gone", "behind", "whole", "ahead", "unborn")}
            inboxes["followed"] = hub.follow("followed")
            for name, inbox in inboxes.items():
                hub.shelf.say(name, *told(0, 5))
                await hub.reader.fetch([inbox])
            inboxes["unborn"].is_unborn = True
            for name in ("gone", "unborn", "followed"):
                del hub.shelf.replies[name]
            hub.shelf.replies["behind"] = told(0, 2)
            hub.shelf.say("ahead", *told(5, 6))
            if (work := trouble(hub)) is not None:
                await work
            await asyncio.sleep(1.6)
            assert hub.shelf.replies == {
                "gone": told(0, 5), "behind": told(0, 5), "whole": told(0, 5), "ahead": told(0, 6),
            }  # fmt: skip
            assert hub.shelf.restored == ["gone", "behind"], "nothing is written to those that are whole"
            shaken = {name for name, inbox in inboxes.items() if inbox.was_shaken}
            assert shaken == {"gone", "behind", "whole", "ahead"}, "their jobs may be lost all the same"
            assert inboxes["ahead"].take() == told(0, 6)

        at_work(story)

    @pytest.mark.parametrize("trouble", [cut, slept, away])
    def test_that_is_done_once(self, trouble: Callable[[Hub], Awaitable[None] | None]) -> None:
        async def story(hub: Hub) -> None:
            inbox = hub.open("r1")
            if (work := trouble(hub)) is not None:
                await work
            await asyncio.sleep(1.6)
            assert inbox.was_shaken
            assert len(hub.bell.kept_ms) == 1
            inbox.was_shaken = False
            await asyncio.sleep(10)
            assert not inbox.was_shaken
            assert len(hub.bell.kept_ms) == 1

        at_work(story)

    def test_the_bell_is_heard_from_its_beginning(self) -> None:
        """A replica that was promoted may go on with lower ids than those that were heard."""

        async def story(hub: Hub) -> None:
            inbox = hub.open("r1")
            await hub.bell.ring("r1")
            await asyncio.sleep(0.01)
            inbox.is_unborn = True
            cut(hub)
            await asyncio.sleep(1.1)
            assert inbox.was_rung

        at_work(story)

    def test_a_request_that_has_ended_since_is_not_given_back_and_the_others_are(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def story(hub: Hub) -> None:
            ended, other = hub.open("r1"), hub.open("r2")
            hub.shelf.replies.clear()
            ask = hub.shelf.last_ids

            async def asked(replies: list[str]) -> list[EntryId | None]:
                found = await ask(replies)
                hub.reader.close(ended)
                return found

            monkeypatch.setattr(hub.shelf, "last_ids", asked)
            cut(hub)
            await asyncio.sleep(1.1)
            assert hub.shelf.restored == ["r2"]
            assert (ended.was_shaken, other.was_shaken) == (False, True)

        at_work(story)

    def test_of_one_too_long_to_be_kept_only_its_opening_comes_back(self) -> None:
        async def story(hub: Hub) -> None:
            inbox = hub.open("r1", log_bytes=1000)
            hub.shelf.say("r1", *told(0, 6))
            await hub.reader.fetch([inbox])
            hub.shelf.replies.clear()
            cut(hub)
            await asyncio.sleep(1.1)
            assert hub.shelf.replies == {"r1": []}

        at_work(story)

    @pytest.mark.parametrize("from_the_start", [True, False])
    def test_while_it_is_away_it_is_tried_ever_more_rarely_and_at_least_once_a_second(
        self, from_the_start: bool
    ) -> None:
        async def story(hub: Hub) -> None:
            if not from_the_start:
                await asyncio.sleep(1.5)
                hub.shelf.is_away = True
                await hub.bell.ring("r0")
            inbox = hub.open("r1")
            await asyncio.sleep(1)
            assert 3 <= hub.shelf.tries <= 12
            before = hub.shelf.tries
            await asyncio.sleep(10)
            assert 10 <= hub.shelf.tries - before <= 24
            hub.shelf.is_away = False
            hub.shelf.say("r1", *told(0, 1))
            back_s = now_s()
            while not inbox.has_news:
                await inbox.wait()
            assert now_s() - back_s <= 1.01

        at_work(story, is_away=from_the_start)


def test_a_machine_that_is_but_busy_did_not_sleep() -> None:
    async def story(hub: Hub) -> None:
        inbox = hub.open("r1")
        await asyncio.sleep(0.2)
        pass_time(1.9)
        await asyncio.sleep(2)
        assert not inbox.was_shaken

    at_work(story)


def test_every_handler_is_poked_twice_a_second() -> None:
    """So all clocks of all requests run on one timer."""

    async def story(hub: Hub) -> None:
        inboxes = [hub.open("r1"), hub.follow("r2")]
        for n in range(1, 6):
            await asyncio.gather(*(inbox.wait() for inbox in inboxes))
            assert now_s() == n / 2

    at_work(story)


@pytest.mark.parametrize(("count", "parts", "round_s"), [(100, 1, 0.5), (101, 2, 0.5), (250, 3, 0.5), (4000, 40, 1.0)])
def test_of_a_crowd_a_hundred_are_poked_at_once_and_all_of_them_in_their_turn(
    count: int, parts: int, round_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two parts others have their turn, and a very large crowd is poked more rarely."""
    poked: list[tuple[Inbox, float]] = []

    async def story(hub: Hub) -> None:
        inboxes = {hub.open(f"r{n}") for n in range(count)}
        await asyncio.sleep(1 + round_s / 2)
        monkeypatch.setattr(Inbox, "poke", lambda inbox: poked.append((inbox, now_s())))
        await asyncio.sleep(round_s)
        assert {inbox for inbox, _ in poked} == inboxes
        at_once = Counter(at_s for _, at_s in poked)
        assert len(at_once) == parts
        assert max(at_once.values()) <= 100

    at_work(story)


def test_what_a_follower_keeps_has_a_limit_of_its_own() -> None:
    async def story(hub: Hub) -> None:
        kept, too_long = hub.follow("r1", log_bytes=1000), hub.follow("r2", log_bytes=999)
        for inbox in (kept, too_long):
            hub.shelf.say(inbox.reply, *told(0, 5, size=200))
            await hub.reader.fetch([inbox])
        assert held(kept) == told(0, 5, size=200)
        assert (kept.log.is_whole, too_long.log.is_whole, held(too_long)) == (True, False, [])

    at_work(story)
