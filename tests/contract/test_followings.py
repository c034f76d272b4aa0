"""Readings of requests that another hub looks after: each reads the broker for itself, so there are not too many."""

from contextlib import ExitStack

import pytest

from common.broker.broker import Broker
from common.types import RequestId
from hub.errors import TooManyReaders
from hub.resume.guard import MOST_READERS
from tests.contract.stage import a_stage
from tests.contract.story import a_job, on_real_brokers, publish

pytestmark = on_real_brokers


async def test_one_request_cannot_take_the_readings_of_all_others(broker: Broker) -> None:
    for request in ("r1", "r2"):
        await publish(broker, request)
    async with a_stage(broker) as stage:
        followings = stage.hub._resumption.followings
        facts = {one: {"status": "queued", "reply": a_job(one).reply, "stream": "1"} for one in ("r1", "r2")}
        with ExitStack() as stack:
            for _ in range(MOST_READERS):
                stack.enter_context(await followings.read(RequestId("r1"), facts["r1"]))
            one_more = await followings.read(RequestId("r1"), facts["r1"])
            with pytest.raises(TooManyReaders):
                stack.enter_context(one_more)
            stack.enter_context(await followings.read(RequestId("r2"), facts["r2"]))
        with await followings.read(RequestId("r1"), facts["r1"]) as following:
            assert following.request == "r1"
