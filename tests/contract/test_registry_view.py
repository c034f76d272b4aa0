"""A hub's picture of the grid: under which name it finds the model that a client asks for."""

from dataclasses import replace

import pytest

from common.broker import Broker
from common.clock import BrokerClock
from common.registry import Registry
from common.streams.changes import Changes
from common.streams.jobs import JobLanes, lanes_of
from common.types import ModelId
from hub.grid.registry_view import MOST_REMEMBERED, RegistryView
from tests.contract.story import NODE
from tests.contract.test_registry import NOW_MS, RECORD

BARE, TAGGED = ModelId("llama3"), ModelId("llama3:latest")


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
