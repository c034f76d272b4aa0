"""What a reply says of its request's end, for the next one who comes with the same Idempotency-Key."""

from collections.abc import Sequence

import pytest

from common.broker.broker import Broker
from common.records.registry import Registry
from common.records.request_book import RequestBook
from common.streams.replies import Doorbell, ReplyStreams, ReplyWrite
from common.succession import LoggedEntry
from common.types import RequestId
from common.wire import LAST_WORD, EntryId, Failure, ReplyEntry, Start, Usage
from hub.relay.reader import ReplyReader
from hub.resume.fates import Fates
from hub.resume.guard import Guard
from hub.settings import HubSettings
from tests.contract.stage import a_stage
from tests.contract.story import HUB, KEYS, NODE, a_job, on_real_brokers, publish

JOB = a_job()
FACTS = {"reply": JOB.reply, "stream": "1"}
BEGUN: LoggedEntry = (EntryId(1, 0), ReplyEntry(claim=NODE, start=Start(200, "text/event-stream", NODE), data=b"hi"))
WHOLE: LoggedEntry = (EntryId(1, 1), ReplyEntry(end=Usage(1, 1)))
FAILED: LoggedEntry = (EntryId(1, 1), ReplyEntry(error=Failure(400, "no", "no")))
LOST: LoggedEntry = (EntryId(1, 1), ReplyEntry(error=Failure(502, "broken", "broken", retryable=True)))
TOO_LATE: LoggedEntry = (EntryId(2, 0), ReplyEntry(claim=NODE))
CANCELLED: LoggedEntry = (LAST_WORD, ReplyEntry(error=Failure(410, "cancelled_by_operator", "cancelled")))

ENDS = pytest.mark.parametrize(
    ("said", "has_failed"),
    [
        ((BEGUN,), False),
        ((BEGUN, WHOLE), False),
        ((BEGUN, FAILED), True),
        ((BEGUN, LOST), False),
        ((BEGUN, CANCELLED), True),
        pytest.param((BEGUN, WHOLE, CANCELLED), False, id="the last word came after the end"),
        pytest.param((BEGUN, FAILED, TOO_LATE), True, id="a node claimed it after the end"),
    ],
)


@ENDS
async def test_a_reply_tells_whether_its_request_has_failed(
    broker: Broker, said: Sequence[LoggedEntry], *, has_failed: bool
) -> None:
    await publish(broker)
    replies, bell = ReplyStreams(broker), KEYS.doorbell_of(JOB.reply)
    await replies.write([ReplyWrite(JOB.reply, bell, JOB.id, entry_id, entry) for entry_id, entry in said])
    reader = ReplyReader(Doorbell(broker, HUB), replies, reply_ttl_ms=60_000, inbox_bytes=1000)
    fates = Fates(RequestBook(broker), replies, Registry(broker), reader, HubSettings())
    assert await fates.has_failed(FACTS) == has_failed


@ENDS
@on_real_brokers
async def test_so_does_what_came_of_one_that_this_hub_looks_after(
    broker: Broker, said: Sequence[LoggedEntry], *, has_failed: bool
) -> None:
    async def nobody(_: RequestId) -> None:
        return None

    async with a_stage(broker) as stage:
        request = await stage.submit(stream=True)
        request.inbox.deliver(said)
        guard = Guard(request, window_s=60, read_elsewhere=nobody)
        assert guard.has_failed == has_failed
        stage.hub.dispatcher.close(request)
