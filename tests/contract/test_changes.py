"""Hints that a node's entry has changed, as nodes give them and hubs hear them."""

from collections.abc import Callable

from common.broker.broker import Broker
from common.streams.changes import HINTS_PER_READ, MAXLEN, Changes
from common.types import NodeId
from tests.contract.story import KEYS, NODE, raw


async def test_more_than_one_read_holds_are_all_heard(broker: Broker, now_ms: Callable[[], int]) -> None:
    changes, names = Changes(broker), {NodeId(f"n{number}") for number in range(HINTS_PER_READ + 7)}
    for name in names:
        await changes.tell(name)
    assert await changes.news(now_ms()) == names
    assert await changes.news(now_ms()) == set()


async def test_the_stream_stays_short(broker: Broker) -> None:
    pipe = raw(broker).pipeline(transaction=False)
    for _ in range(MAXLEN + 500):
        pipe.xadd(KEYS.changes, {"node": "n"})
    await pipe.execute()
    await Changes(broker).tell(NODE)
    assert await raw(broker).xlen(KEYS.changes) <= MAXLEN + 100


async def test_a_hint_that_uses_up_the_ids_costs_the_hints_of_a_moment(
    broker: Broker, now_ms: Callable[[], int]
) -> None:
    changes = Changes(broker)
    await raw(broker).xadd(KEYS.changes, {"node": "mallory"}, id=f"{2**64 - 1}-{2**64 - 1}")
    await changes.news(now_ms())
    await changes.tell(NODE)
    assert await changes.news(now_ms()) == {NODE}
