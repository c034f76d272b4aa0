"""A reply that its hub renews or gives back in the very moment in which its request ends."""

import asyncio
from collections.abc import Sequence

from common.broker.broker import Broker
from common.streams.replies import Doorbell, ReplyStreams
from common.streams.requests import Requests
from common.types import RequestId
from common.wire import EntryId
from hub.relay.inbox import Inbox
from hub.relay.reader import ReplyReader
from tests.contract.story import HUB, TTLS, a_job, all_keys, on_real_brokers, publish, raw

R1 = RequestId("r1")
REPLY = a_job("r1").reply
TTL_MS, LINGER_MS, KEPT_MS = 60_000, 1000, 900_000


class EndsMeanwhile(ReplyStreams):
    """Its request ends while the reader asks how far replies are."""

    reader: ReplyReader
    inbox: Inbox

    async def last_ids(self, replies: Sequence[str]) -> list[EntryId | None]:
        newest = await super().last_ids(replies)
        self.reader.close(self.inbox)
        return newest


@on_real_brokers
async def test_renewing_does_not_undo_an_end_that_came_behind_it(broker: Broker) -> None:
    """Else it stays for a minute and nobody's; or, kept for those who come back for it, for no more than a minute."""
    requests = Requests(broker, TTLS, HUB)
    for at, ends_in_ms in enumerate([LINGER_MS, KEPT_MS] * 10):
        reply = a_job(f"r{at}").reply
        await publish(broker, f"r{at}")
        await asyncio.gather(ReplyStreams(broker).keep([reply], TTL_MS), requests.close(reply, ends_in_ms))
        assert ends_in_ms - 500 < await raw(broker).pttl(reply) <= ends_in_ms


async def test_what_is_gone_since_its_request_ended_is_not_given_back(broker: Broker) -> None:
    await publish(broker, "r1")
    streams = EndsMeanwhile(broker)
    reader = ReplyReader(Doorbell(broker, HUB), streams, reply_ttl_ms=TTL_MS, inbox_bytes=2**20)
    streams.reader, streams.inbox = reader, reader.open(R1, REPLY)
    await raw(broker).delete(REPLY)
    await reader.check(streams.inbox)
    assert REPLY not in await all_keys(broker)
