"""Every key that the verbs make ends by itself, but for job lanes and dead letters; and no grid sees another's keys.

Dead letters are bounded by their number: a provider's broker user may not say how long they stay, and a hub does.
"""

from dataclasses import replace

from common.broker.broker import Broker
from common.keys import Keys
from common.orders import ControlEntry, Order
from common.records.grid import HubRecord
from common.records.registry import Registry
from common.streams.changes import Changes
from common.streams.control import ControlStreams
from common.streams.jobs import JobLanes
from common.streams.replies import Doorbell, ReplyStreams, ReplyWrite
from common.streams.requests import Requests
from common.types import Lane, RequestId
from common.wire import EntryId, ReplyEntry
from tests.contract.story import (
    HUB,
    KEYS,
    LANES,
    NODE,
    OTHER_MODEL,
    TTLS,
    a_job,
    all_keys,
    claim_all,
    live_nodes,
    publish,
    raw,
)
from tests.contract.test_registry import RECORD


async def test_nothing_stays_for_ever_but_the_lanes_and_what_a_provider_buried(broker: Broker) -> None:
    lanes, requests, replies, registry = (
        JobLanes(broker),
        Requests(broker, TTLS, HUB),
        ReplyStreams(broker),
        Registry(broker),
    )
    r1, r2 = RequestId("r1"), RequestId("r2")
    await registry.write_node(RECORD, 6000)
    await Changes(broker).tell(NODE)
    await registry.write_hub(HubRecord(HUB, "", "", 0, 0), 6000)
    await Doorbell(broker, HUB).keep(6000)
    ticket = await publish(broker, "r1")
    waiting = await publish(broker, "r2", OTHER_MODEL, Lane.BATCH)
    await claim_all(broker)
    write = ReplyWrite(a_job("r1").reply, KEYS.doorbell(HUB), r1, EntryId(1, 0), ReplyEntry(claim=NODE))
    await replies.write([write])
    await requests.update({r1: {"status": "claimed"}, RequestId("unseen"): {"status": "done"}}, {r1: ticket.lane})
    await lanes.requeue(ticket, a_job("r1", attempt=2))
    await lanes.bury(a_job("r1").to_fields(), "for the test")
    await requests.call_off(r2, a_job("r2").reply, waiting, NODE)
    await ControlStreams(broker).send(NODE, ControlEntry(Order.DRAIN))
    await requests.close(a_job("r1").reply, 1000)

    keys = await all_keys(broker)
    streams = {KEYS.lane(*lane) for lane in [*LANES, waiting.lane]}
    for_ever = {key for key in keys if await raw(broker).pttl(key) == -1}
    assert for_ever == streams | {KEYS.dead}
    kinds = ["node:", "nodes", "hub:", "{jobs}:waiting:retry:", "{jobs}:lanes", "request:", "reply:", "doorbell:"]
    for kind in [*kinds, "control:", "dead", "changes"]:
        assert any(key.startswith(f"ghub:{kind}") for key in keys), f"the story made no {kind}"


async def test_two_grids_on_one_broker_do_not_see_each_other(broker: Broker) -> None:
    other = replace(broker, keys=Keys("lab:"))
    await publish(broker, "r1")
    await Registry(broker).write_node(RECORD, 6000)
    await JobLanes(other).ensure(LANES)
    assert await JobLanes(other).claim(NODE, LANES, 5) == []
    assert await live_nodes(Registry(other), RECORD.heartbeat_at) == []
    assert await JobLanes(broker).known() != await JobLanes(other).known() == set(LANES)
    assert len(await claim_all(broker)) == 1
