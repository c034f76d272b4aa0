"""Requests of a hub without its HTTP server, and a node played by the test: what counts against them, and turns."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from common.broker.broker import Broker
from common.errors import BrokerUnavailable
from common.keys import Keys
from common.streams.requests import Published, Requests
from common.streams.requests import QueueFull as QueueIsFull
from common.types import Lane
from common.wire import Failure
from hub.access.gatekeeper import Caller
from hub.errors import ApiNotServed, AttemptFailed, LaneForbidden, QueueFull, ShuttingDown
from hub.requests.request import OpenRequest
from tests.contract.stage import OTHER_NODE, a_stage
from tests.contract.story import LANES, MODEL, NODE, all_keys, eventually, on_real_brokers, raw
from tests.contract.test_limits import KEY, NOTHING
from tests.contract.test_registry import RECORD

pytestmark = on_real_brokers

ONE_AT_A_TIME = Caller(replace(KEY, concurrency=1))
NOT_SUPPORTED = Failure(501, "endpoint_not_supported", "not here", retryable=True)
CRASH = Failure(502, "engine_error", "it crashed", retryable=True)


async def test_nodes_that_lack_the_api_use_up_no_attempts(broker: Broker) -> None:
    async with a_stage(broker) as stage:
        request = await stage.submit()
        ending = asyncio.create_task(stage.end_of(request))
        for _ in range(5):
            await stage.fail(NOT_SUPPORTED)
        await stage.answer(OTHER_NODE)
        assert await ending is None
        assert request.job.attempt == 6


async def test_crashes_use_them_up_and_the_job_is_kept_for_the_operator(broker: Broker) -> None:
    async with a_stage(broker) as stage:
        ending = asyncio.create_task(stage.end_of(await stage.submit()))
        await stage.fail(CRASH)
        await stage.fail(CRASH, OTHER_NODE)
        failed = await ending
    assert isinstance(failed, AttemptFailed)
    assert failed.code == "engine_error"
    assert Keys().dead in await all_keys(broker)


async def test_what_a_node_had_that_was_cut_off_runs_elsewhere_at_once(broker: Broker) -> None:
    async with a_stage(broker) as stage:
        request = await stage.submit()
        ending = asyncio.create_task(stage.end_of(request))
        await stage.claim(NODE)
        began = asyncio.get_running_loop().time()
        view = stage.hub.dispatcher._stage.view
        await raw(broker).zadd(Keys().revoked, {NODE: view._clock.now_ms()})
        await stage.answer(OTHER_NODE)
        assert await ending is None
        assert asyncio.get_running_loop().time() - began < 2.9, "no grace for a node that was cut off"
        assert request.node == OTHER_NODE


class TestWaitingForItsTurn:
    async def test_its_job_is_published_when_the_one_before_has_ended(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:
            first, second = await stage.submit(ONE_AT_A_TIME), await stage.submit(ONE_AT_A_TIME)
            endings = [asyncio.create_task(stage.end_of(one)) for one in (first, second)]
            await stage.claim()
            assert await stage.lanes.claim(OTHER_NODE, LANES, 1) == []
            assert (first.place.ticket is not None, second.place.ticket) == (True, None)
            first.abandon()
            await stage.answer(OTHER_NODE)
            assert await endings[1] is None
        assert await stage.turns() == NOTHING

    async def test_if_nobody_hears_that_its_job_was_published_it_is_not_published_again(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with a_stage(broker) as stage:
            first, second = await stage.submit(ONE_AT_A_TIME), await stage.submit(ONE_AT_A_TIME)
            endings = [asyncio.create_task(stage.end_of(one)) for one in (first, second)]
            delivery, job = await stage.claim()
            publish, tries = Requests.publish, 0

            async def publish_unheard(*args: Any, **options: Any) -> Published | QueueIsFull:
                nonlocal tries
                published, tries = await publish(*args, **options), tries + 1
                if tries < 3:
                    raise BrokerUnavailable("the answer was lost")
                return published

            monkeypatch.setattr(Requests, "publish", publish_unheard)
            first.abandon()
            await stage.lanes.settle(delivery.ticket, job.id)
            await eventually(lambda: _has_ticket(second), "the hub to know where its job lies")
            assert not second.inbox.is_unborn, "its reply is kept"
            assert sum([await raw(broker).xlen(Keys().lane(*lane)) for lane in LANES]) == 1
            await stage.answer(OTHER_NODE)
            assert await endings[1] is None
        assert await stage.turns() == NOTHING

    async def test_it_shows_as_queued_with_its_key(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:
            held, waits = await stage.submit(ONE_AT_A_TIME), await stage.submit(ONE_AT_A_TIME)

            async def is_shown() -> bool:
                shown = await raw(broker).hmget(Keys().request(waits.id), "status", "key", "lane")
                return bool(shown == [b"queued", KEY.id.encode(), b"interactive"])

            await eventually(is_shown, "the waiting request's hash")
            for request in (waits, held):
                request.abandon()
                assert await stage.end_of(request) is None

    async def test_a_hub_that_stops_ends_it(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:
            requests = [await stage.submit(ONE_AT_A_TIME) for _ in range(3)]
            endings = [asyncio.create_task(stage.end_of(request)) for request in requests]
            await stage.hub.dispatcher.drain(0)
            assert {type(error) for error in await asyncio.gather(*endings)} == {ShuttingDown}
        assert await stage.turns() == NOTHING

    async def test_a_queue_that_filled_meanwhile_refuses_it_then(self, broker: Broker) -> None:
        async with a_stage(broker, max_queue=1) as stage:
            first, second = await stage.submit(ONE_AT_A_TIME), await stage.submit(ONE_AT_A_TIME)
            endings = [asyncio.create_task(stage.end_of(one)) for one in (first, second)]
            await stage.claim()
            other = await stage.submit()
            first.abandon()
            assert isinstance(await endings[1], QueueFull)
            other.abandon()
            assert await stage.end_of(other) is None
        assert await stage.turns() == NOTHING


async def test_what_is_refused_at_once_leaves_nothing_and_holds_no_turn(broker: Broker) -> None:
    async with a_stage(broker, max_queue=1) as stage:
        held = await stage.submit()
        with pytest.raises(QueueFull):
            await stage.submit(ONE_AT_A_TIME)
        await stage.hub.dispatcher.finish_closing(5)
        await stage.hub._stage.turns.finish(5)
        assert await stage.turns() == NOTHING
        requests = [key for key in await all_keys(broker) if key.startswith("ghub:request:")]
        assert requests == [Keys().request(held.id)]
        held.abandon()
        await stage.end_of(held)


async def test_without_a_key_nothing_of_limits_is_asked(broker: Broker) -> None:
    async with a_stage(broker) as stage:
        ending = asyncio.create_task(stage.end_of(await stage.submit()))
        await stage.answer()
        assert await ending is None
    assert not [key for key in await all_keys(broker) if "limit" in key or "usage" in key]


async def test_an_api_that_no_node_has_is_refused_and_one_that_is_not_known_of_is_tried(broker: Broker) -> None:
    async with a_stage(broker) as stage:
        view = stage.hub.dispatcher._stage.view
        told = replace(RECORD, node=NODE, models=(MODEL,), engine={"capabilities": ["embeddings"]})
        view.models = {MODEL: [told]}
        with pytest.raises(ApiNotServed):
            await stage.submit()
        view.models = {MODEL: [told, replace(told, engine={})]}
        request = await stage.submit()
        request.abandon()
        await stage.end_of(request)


async def test_a_key_for_batch_may_not_ask_for_more(broker: Broker) -> None:
    async with a_stage(broker) as stage:
        caller = Caller(replace(KEY, lane=Lane.BATCH))
        with pytest.raises(LaneForbidden, match=r"the lane 'batch', not 'interactive'\."):
            await stage.submit(caller, lane=Lane.INTERACTIVE)
        request = await stage.submit(caller)
        assert request.place.lane is Lane.BATCH
        request.abandon()
        await stage.end_of(request)


async def _has_ticket(request: OpenRequest) -> bool:
    return request.place.ticket is not None
