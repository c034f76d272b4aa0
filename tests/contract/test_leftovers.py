"""What dead hubs leave: found by the index, taken by one of many, forgotten when nothing is left."""

import asyncio

from common.broker.broker import Broker
from common.records.grid import HubRecord
from common.records.leftovers import Leftovers
from common.records.registry import FORGET_NODE_MS, Registry
from common.types import HubId, RequestId
from tests.contract.story import KEYS, all_keys, publish, raw

NOW_MS = 1_700_000_000_000
DEAD, LIVE, OTHER = HubId("hub-1"), HubId("hub-2"), HubId("hub-3")
"""The first is that of `story.publish`."""


async def beat(broker: Broker, hub: HubId, at_ms: int = NOW_MS) -> None:
    await Registry(broker).write_hub(HubRecord(hub, "", "", 0, 0, at_ms), 60_000)


async def die(broker: Broker, hub: HubId) -> None:
    """As a hub's hash goes when its lease is over."""
    await raw(broker).delete(KEYS.hub(hub))


async def test_only_a_hub_whose_entry_is_gone_is_dead(broker: Broker) -> None:
    leftovers = Leftovers(broker)
    assert await leftovers.dead_hubs() == []
    for hub in (DEAD, LIVE):
        await beat(broker, hub)
    assert await leftovers.dead_hubs() == []
    await die(broker, DEAD)
    assert await leftovers.dead_hubs() == [DEAD]
    assert [hub.hub for hub in await Registry(broker).live_hubs()] == [LIVE]


async def test_of_several_hubs_that_take_a_request_one_has_it(broker: Broker) -> None:
    leftovers = Leftovers(broker)
    names = [RequestId(f"r{number}") for number in range(20)]
    for name in names:
        await publish(broker, name)
    assert sorted(await leftovers.open_of(DEAD)) == sorted(names)
    won = await asyncio.gather(*(leftovers.take(names, DEAD, hub) for hub in (LIVE, OTHER, LIVE, OTHER)))
    assert sorted(name for some in won for name in some) == sorted(names)
    assert await leftovers.open_of(DEAD) == []
    assert sorted(await leftovers.open_of(LIVE) + await leftovers.open_of(OTHER)) == sorted(names)


async def test_a_part_of_what_is_open_can_be_asked_for(broker: Broker) -> None:
    for number in range(5):
        await publish(broker, f"r{number}")
    some = await Leftovers(broker).open_of(DEAD, 3)
    assert len(some) == len(set(some)) == 3
    assert await Leftovers(broker).open_of(LIVE, 3) == []
    assert await Leftovers(broker).take([], DEAD, LIVE) == []


async def test_a_dead_hub_is_named_until_nothing_of_it_is_left(broker: Broker) -> None:
    """However long ago it died: what it looked after would never be found again."""
    leftovers, long_after = Leftovers(broker), NOW_MS + 100 * FORGET_NODE_MS
    await beat(broker, DEAD)
    await publish(broker, "r1")
    await die(broker, DEAD)
    assert not await leftovers.forget(DEAD, long_after)
    await Registry(broker).live_hubs()
    assert await leftovers.dead_hubs() == [DEAD]
    await leftovers.take([RequestId("r1")], DEAD, LIVE)
    assert not await leftovers.forget(DEAD, NOW_MS + FORGET_NODE_MS - 1), "it may only have been stopped for a while"
    assert await leftovers.forget(DEAD, long_after)
    assert await leftovers.dead_hubs() == []
    assert not await leftovers.forget(DEAD, long_after)


async def test_a_hub_that_stops_with_requests_is_found_at_once(broker: Broker) -> None:
    registry = Registry(broker)
    for hub in (DEAD, LIVE):
        await beat(broker, hub)
    await publish(broker, "r1")
    await registry.remove_hub(DEAD)
    await registry.remove_hub(LIVE)
    assert await Leftovers(broker).dead_hubs() == [DEAD]
    assert KEYS.open_requests(LIVE) not in await all_keys(broker)


async def test_a_hub_hears_that_its_entry_had_run_out(broker: Broker) -> None:
    registry, record = Registry(broker), HubRecord(DEAD, "", "", 0, 0, NOW_MS)
    assert [await registry.write_hub(record, 60_000) for _ in range(3)] == [False, True, True]
    await die(broker, DEAD)
    assert not await registry.write_hub(record, 60_000)


async def test_a_name_that_is_no_text_hides_no_other_hub(broker: Broker) -> None:
    await beat(broker, DEAD)
    await die(broker, DEAD)
    await raw(broker).zadd(KEYS.hubs, {b"\xff": NOW_MS})
    assert DEAD in await Leftovers(broker).dead_hubs()
