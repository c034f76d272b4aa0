"""Dead letters, the book of requests, and the last word that an operator has in a reply."""

import asyncio
from dataclasses import replace

import pytest
from pydantic import SecretStr

from common.broker.broker import Broker
from common.records.request_book import RequestBook
from common.streams.dead import DeadLetter, DeadLetters, is_entry
from common.streams.last_word import LastWords
from common.streams.replies import Doorbell, ReplyStreams, ReplyWrite, Written
from common.types import ModelId, RequestId
from common.wire import EntryId, Job, ReplyEntry, Usage
from hub.errors import ProviderLost
from hub.office.requests import CANCELLED, LAST_WORD
from hub.requests.burial import MAX_BODY_BYTES, DeadJobs
from hub.settings import HubSettings
from tests.contract.story import HUB, KEYS, LANES, MODEL, NODE, a_job, on_real_brokers, publish, raw

ERROR = ProviderLost("the node died, naïvely")
OPERATED = HubSettings(admin_token=SecretStr("admin-token-of-the-tests"))


async def buried(broker: Broker, job: Job, settings: HubSettings = OPERATED) -> DeadLetter:
    """A job's letter, as it is read again."""
    await DeadJobs(DeadLetters(broker), settings).bury(job, ERROR)
    return (await DeadLetters(broker).newest(1))[0]


class TestLetters:
    async def test_the_newest_come_first(self, broker: Broker) -> None:
        letters = DeadLetters(broker)
        assert list(await letters.newest(5)) == []
        for n in range(3):
            await letters.add({b"id": b"%d" % n})
        newest = await letters.newest(2)
        assert [letter.text(b"id") for letter in newest] == ["2", "1"]
        assert [letter.text(b"id") for letter in await letters.newest(2, before=newest[-1].entry)] == ["0"]
        assert await raw(broker).pttl(KEYS.dead) > 0

    @on_real_brokers
    async def test_an_entry_under_the_highest_id_does_not_close_them(self, broker: Broker) -> None:
        """Any provider may add one; no id is left behind it."""
        letters = DeadLetters(broker)
        await raw(broker).xadd(KEYS.dead, {"id": "odd"}, id=f"{2**64 - 1}-{2**64 - 1}")
        await letters.add({b"id": b"after"})
        assert [letter.text(b"id") for letter in await letters.newest(5)] == ["after"]
        assert await raw(broker).pttl(KEYS.dead) > 0

    async def test_of_several_that_drop_one_letter_one_does(self, broker: Broker) -> None:
        letters = DeadLetters(broker)
        await letters.add({b"id": b"1"})
        (letter,) = await letters.newest(1)
        assert await letters.read(letter.entry) == letter
        assert sorted(await asyncio.gather(*(letters.drop(letter.entry) for _ in range(3)))) == [False, False, True]
        assert await letters.read(letter.entry) is None

    async def test_all_can_go_at_once(self, broker: Broker) -> None:
        letters = DeadLetters(broker)
        for _ in range(3):
            await letters.add({b"id": b"1"})
        assert [await letters.drop_all(), await letters.drop_all()] == [3, 0]

    async def test_whatever_counts_as_an_entry_can_be_asked_for(self, broker: Broker) -> None:
        for entry in ("0-0", "1-1", f"{2**64 - 1}-{2**64 - 1}"):
            assert is_entry(entry)
            assert await DeadLetters(broker).read(entry) is None
        assert not any(map(is_entry, ["", "-", "+", "1", "1-", "a-1", "1-1-1", "²-1", f"{2**64}-0", "(1-1", "1 -1"]))


class TestSeals:
    async def test_a_hub_s_own_letter_holds_the_job_as_it_was(self, broker: Broker) -> None:
        letter = await buried(broker, a_job("r1", attempt=3))
        assert letter.text(b"reason") == "the node died, naïvely"
        assert letter.text(b"code") == "provider_lost"
        job = DeadJobs(DeadLetters(broker), OPERATED).sealed_job(letter)
        assert job is not None
        assert replace(job, sig="") == a_job("r1", attempt=3)

    @pytest.mark.parametrize("name", [*a_job().to_fields()])
    async def test_a_letter_of_which_any_field_was_changed_is_nobody_s(self, broker: Broker, name: bytes) -> None:
        letter = await buried(broker, a_job())
        dead_jobs = DeadJobs(DeadLetters(broker), OPERATED)
        for fields in ({**letter.fields, name: letter.fields[name] + b"1"}, {**letter.fields, name: b""}):
            if fields != letter.fields:
                assert dead_jobs.sealed_job(DeadLetter(letter.entry, fields)) is None
        left = {key: value for key, value in letter.fields.items() if key != name}
        assert dead_jobs.sealed_job(DeadLetter(letter.entry, left)) is None

    async def test_another_operator_s_seal_is_no_seal(self, broker: Broker) -> None:
        letter = await buried(broker, a_job())
        other = HubSettings(admin_token=SecretStr("another-token-of-the-tests"))
        assert DeadJobs(DeadLetters(broker), other).sealed_job(letter) is None
        assert DeadJobs(DeadLetters(broker), HubSettings()).sealed_job(letter) is None

    @pytest.mark.parametrize(
        ("settings", "body"),
        [
            pytest.param(HubSettings(), b"hi", id="without an operator"),
            pytest.param(OPERATED.model_copy(update={"keep_dead_bodies": False}), b"hi", id="turned off"),
            pytest.param(OPERATED, b"x" * (MAX_BODY_BYTES + 1), id="too long"),
        ],
    )
    async def test_a_body_that_nobody_may_retry_is_not_kept(
        self, broker: Broker, settings: HubSettings, body: bytes
    ) -> None:
        letter = await buried(broker, replace(a_job(), body=body), settings)
        assert not {b"body", b"sig"} & letter.fields.keys()
        assert letter.text(b"id") == "r1"
        assert DeadJobs(DeadLetters(broker), settings).sealed_job(letter) is None


class TestRequests:
    async def test_the_book_tells_who_waits_and_how_each_stands(self, broker: Broker) -> None:
        for name in ("r1", "r2", "r3"):
            await publish(broker, name)
        book = RequestBook(broker)
        assert await book.waiting(LANES, 2) == ["r1", "r2"]
        read = await book.read([RequestId("r2"), RequestId("unknown")])
        assert {request: fields["status"] for request, fields in read.items()} == {"r2": "queued"}
        assert await book.read([]) == {}
        assert read[RequestId("r2")]["model"] == ModelId(MODEL)


class TestTheLastWord:
    @pytest.mark.parametrize("attempt", [1, 2, 20])
    async def test_no_attempt_of_any_provider_is_heard_after_it(self, broker: Broker, attempt: int) -> None:
        await publish(broker, "r1")
        reply, replies = a_job("r1").reply, ReplyStreams(broker)

        async def write(entry_id: EntryId, entry: ReplyEntry) -> Written:
            (written,) = await replies.write([ReplyWrite(reply, KEYS.doorbell(HUB), RequestId("r1"), entry_id, entry)])
            return written

        assert await write(EntryId(attempt, 0), ReplyEntry(claim=NODE)) is Written.YES
        assert await write(LAST_WORD, ReplyEntry(error=CANCELLED)) is Written.YES
        assert await write(EntryId(attempt, 1), ReplyEntry(data=b"x", end=Usage())) is Written.FENCED
        assert await replies.fates([(reply, attempt)]) == [Written.FENCED]
        assert await write(LAST_WORD, ReplyEntry(error=CANCELLED)) is Written.FENCED

    async def test_it_is_not_written_to_a_request_that_is_over(self, broker: Broker) -> None:
        write = ReplyWrite(
            "ghub:reply:{h}:r1", "ghub:doorbell:{h}", RequestId("r1"), LAST_WORD, ReplyEntry(error=CANCELLED)
        )
        assert await ReplyStreams(broker).write([write]) == [Written.GONE]
        assert await raw(broker).exists(write.reply) == 0

    async def test_one_that_waits_for_its_turn_hears_it_too_and_can_no_more_be_run(self, broker: Broker) -> None:
        reply, replies, request = a_job("r1").reply, ReplyStreams(broker), RequestId("r1")
        doorbell = Doorbell(broker, HUB)
        await doorbell.keep(60_000)
        write = ReplyWrite(reply, KEYS.doorbell(HUB), request, LAST_WORD, ReplyEntry(error=CANCELLED))
        await LastWords(broker).leave(write, 60_000)
        assert await doorbell.wait(1000) == {request}
        ((entry_id, entry),) = (await replies.read({reply: EntryId(0, 0)}, 10))[reply]
        assert (entry_id, entry.error) == (LAST_WORD, CANCELLED)
        claim = ReplyWrite(reply, KEYS.doorbell(HUB), request, EntryId(1, 0), ReplyEntry(claim=NODE))
        assert await replies.write([claim]) == [Written.FENCED]
        assert 0 < await raw(broker).pttl(reply) <= 60_000

    async def test_a_hub_that_is_gone_is_not_rung(self, broker: Broker) -> None:
        write = ReplyWrite(
            "ghub:reply:{h}:r", "ghub:doorbell:{h}", RequestId("r"), LAST_WORD, ReplyEntry(error=CANCELLED)
        )
        await LastWords(broker).leave(write, 60_000)
        assert await raw(broker).exists(write.doorbell) == 0
