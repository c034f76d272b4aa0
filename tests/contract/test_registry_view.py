"""A hub's picture of the grid: under which name it finds the model that a client asks for."""

import asyncio
from dataclasses import replace

import pytest

from common.broker.broker import Broker
from common.broker.clock import BrokerClock
from common.errors import BrokerUnavailable
from common.records.registry import Registry
from common.streams.changes import Changes
from common.streams.jobs import JobLanes, lanes_of
from common.types import ModelId, NodeId
from hub.grid import registry_view
from hub.grid.registry_view import MOST_REMEMBERED, RegistryView
from provider.presence.entry import NodeEntry
from tests.contract.story import KEYS, NODE, raw
from tests.contract.test_registry import NOW_MS, RECORD

BARE, TAGGED = ModelId("llama3"), ModelId("llama3:latest")


class Counted:
    """Connections that were made again, as the test says."""

    count = 0


@pytest.fixture
def view(broker: Broker) -> RegistryView:
    return RegistryView(Registry(broker), Changes(broker), JobLanes(broker), BrokerClock(broker))


async def serve(broker: Broker, *models: ModelId) -> None:
    await JobLanes(broker).ensure(lanes_of(models))
    await Registry(broker).write_node(replace(RECORD, models=models, heartbeat_at=2 * NOW_MS), 60_000)


@pytest.mark.parametrize("asked", [BARE, TAGGED])
@pytest.mark.parametrize("served", [BARE, TAGGED])
async def test_either_name_leads_to_the_one_that_is_served(
    broker: Broker, view: RegistryView, asked: ModelId, served: ModelId
) -> None:
    assert await view.find(asked) is None
    await serve(broker, served)
    assert await view.find(asked) == served


@pytest.mark.parametrize("asked", [BARE, TAGGED])
async def test_where_both_are_served_each_is_itself(broker: Broker, view: RegistryView, asked: ModelId) -> None:
    await serve(broker, BARE, TAGGED)
    assert await view.find(asked) == asked


async def test_a_name_that_was_given_up_leads_to_the_other_one(broker: Broker, view: RegistryView) -> None:
    """Its lanes are still there, and no node will ever look at them."""
    await serve(broker, TAGGED)
    await view.refresh()
    await serve(broker, BARE)
    await view.refresh()
    assert await view.find(TAGGED) == BARE


async def test_a_model_whose_nodes_are_all_gone_is_still_known(broker: Broker, view: RegistryView) -> None:
    await serve(broker, BARE)
    await view.refresh()
    await Registry(broker).remove_node(NODE)
    await view.refresh()
    assert [await view.find(BARE), await view.find(TAGGED)] == [BARE, BARE]


async def test_names_that_a_node_made_up_are_not_remembered_for_ever(broker: Broker, view: RegistryView) -> None:
    """Whoever may write a node's entry may name others each second."""
    await serve(broker, BARE)
    for turn in range(8):
        models = tuple(ModelId(f"m{turn}-{number}") for number in range(4000))
        await Registry(broker).write_node(replace(RECORD, models=models, heartbeat_at=2 * NOW_MS), 60_000)
        await view.refresh()
    assert len(view.known) <= MOST_REMEMBERED + 4001
    assert await view.find(BARE) == BARE


async def test_what_moves_all_the_time_is_seen_where_somebody_asks(broker: Broker, view: RegistryView) -> None:
    """GPUs and the progress of requests: whoever watches pays for them."""
    clock, entry = BrokerClock(broker), NodeEntry(NODE, Registry(broker), Changes(broker), 6000)
    await clock.sync()
    record = replace(RECORD, heartbeat_at=clock.now_ms())
    await entry.renew(record, index=True)
    await view.refresh()
    await view.refresh()
    await entry.renew(replace(record, gpus=({"name": "H100", "utilization_pct": 97},)), index=True)
    await view.refresh()
    assert view.nodes[NODE].gpus == RECORD.gpus
    await view.renew()
    assert view.nodes[NODE].gpus == ({"name": "H100", "utilization_pct": 97},)


async def test_after_a_break_of_the_broker_all_is_read_until_it_is_settled(broker: Broker) -> None:
    """What was lost there comes back without a word."""
    counted = Counted()
    view = RegistryView(Registry(broker), Changes(broker), JobLanes(broker), BrokerClock(broker), reconnections=counted)
    clock, entry = BrokerClock(broker), NodeEntry(NODE, Registry(broker), Changes(broker), 6000)
    await clock.sync()
    await entry.renew(replace(RECORD, heartbeat_at=clock.now_ms()), index=True)
    await view.refresh()
    await view.refresh()
    for key in (KEYS.node(NODE), KEYS.nodes):
        await raw(broker).delete(key)
    await view.refresh()
    assert NODE in view.nodes, "its lease lasts, as far as is known"
    counted.count += 1
    await view.refresh()
    assert (NODE in view.nodes, view.is_settled) == (False, False)
    await entry.renew(replace(RECORD, heartbeat_at=clock.now_ms()), index=True)
    await view.refresh()
    assert NODE in view.nodes


class Late(Registry):
    """A registry that answers when the test says so."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.is_away = False

    async def revoked(self) -> frozenset[NodeId]:
        await self.may_answer.wait()
        if self.is_away:
            raise BrokerUnavailable("away")
        return await super().revoked()


async def test_a_hub_that_is_slow_does_not_take_its_broker_for_gone(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_view, "FRESH_S", 0.05)
    registry = Late(broker)
    view = RegistryView(registry, Changes(broker), JobLanes(broker), BrokerClock(broker))
    await view.refresh()
    registry.may_answer.clear()
    look = asyncio.create_task(view.refresh())
    await asyncio.sleep(0.1)
    assert (view.is_fresh, view.is_answered) == (False, False)
    asyncio.get_running_loop().call_later(0.1, registry.may_answer.set)
    assert await view.hears(), "the look ends well"
    await look


async def test_nobody_waits_for_a_broker_that_was_not_there_when_it_was_looked_at(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_view, "FRESH_S", 0.05)
    registry = Late(broker)
    view = RegistryView(registry, Changes(broker), JobLanes(broker), BrokerClock(broker))
    await view.refresh()
    registry.is_away = True
    with pytest.raises(BrokerUnavailable):
        await view.refresh()
    assert await view.hears(), "once is no time"
    await asyncio.sleep(0.1)
    async with asyncio.timeout(registry_view.LATE_S / 2):
        assert not await view.hears()
    registry.is_away = False
    await view.refresh()
    assert await view.hears()
