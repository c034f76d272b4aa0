"""What a provider that was told of its broker does about lanes itself; and that no job is refused for a key too new."""

import pytest

from common.broker.broker import Broker
from common.errors import BrokerUnavailable, LaneMissing
from common.signing import SigningKeys
from common.streams.jobs import Delivery, JobLanes, lanes_of
from common.streams.requests import Requests
from common.types import Lane, ModelId
from provider.jobs.deliveries import Deliveries
from provider.membership.access import SharedAccess
from tests.contract.story import (
    HUB,
    KEYS,
    LANES,
    MODEL,
    NODE,
    OTHER_MODEL,
    TTLS,
    a_job,
    claim_all,
    on_real_brokers,
    pending,
    raw,
)

OLD, NEW = ("old", b"0123456789abcdef"), ("new", b"fedcba9876543210")


class Learner(SharedAccess):
    """One that hears of a new key when it asks."""

    def __init__(self, lanes: JobLanes, learns: SigningKeys) -> None:
        super().__init__(lanes, lambda: [MODEL], SigningKeys((OLD,)))
        self._learns = learns
        self.asked: list[str] = []

    async def learn_key(self, key_id: str) -> None:
        self.asked.append(key_id)
        self._signing = self._learns


async def a_delivery(broker: Broker, key: tuple[str, bytes]) -> Delivery:
    """A job that was signed with this key, just claimed."""
    job = a_job("r1").signed(SigningKeys((key,)))
    await Requests(broker, TTLS, HUB).publish(job, Lane.INTERACTIVE, {"model": MODEL, "hub": HUB}, max_waiting=10)
    (delivery,) = await claim_all(broker)
    return delivery


class TestLanes:
    async def test_lanes_follow_the_models_of_the_engine(self, broker: Broker) -> None:
        models = [MODEL]
        access = SharedAccess(JobLanes(broker), lambda: models, SigningKeys())
        assert not access.models
        await access.refresh()
        assert set(access.models) == {MODEL}
        models.append(OTHER_MODEL)
        await access.refresh()
        assert set(access.models) == {MODEL, OTHER_MODEL}
        assert await JobLanes(broker).known() == set(lanes_of(models))

    @on_real_brokers
    async def test_lanes_that_are_missed_are_made(self, broker: Broker) -> None:
        lanes = JobLanes(broker)
        access = SharedAccess(lanes, lambda: [MODEL], SigningKeys())
        with pytest.raises(LaneMissing) as missed:
            await lanes.claim(NODE, LANES, 1)
        await access.mend(missed.value, 0)
        assert await lanes.claim(NODE, LANES, 1) == []

    async def test_other_trouble_makes_none(self, broker: Broker) -> None:
        access = SharedAccess(JobLanes(broker), lambda: [ModelId("m")], SigningKeys())
        await access.mend(BrokerUnavailable("away"), 0)
        assert await JobLanes(broker).known() == set()


class TestKeys:
    async def test_a_job_of_a_known_key_is_nothing_to_ask_about(self, broker: Broker) -> None:
        access = Learner(JobLanes(broker), SigningKeys())
        assert await Deliveries(JobLanes(broker), KEYS, access).verified(await a_delivery(broker, OLD)) is not None
        assert access.asked == []

    async def test_a_job_of_a_key_that_came_since_is_taken(self, broker: Broker) -> None:
        access = Learner(JobLanes(broker), SigningKeys((NEW, OLD)))
        assert await Deliveries(JobLanes(broker), KEYS, access).verified(await a_delivery(broker, NEW)) is not None
        assert access.asked == ["new"]
        assert await raw(broker).xlen(KEYS.dead) == 0

    async def test_one_of_a_key_that_nobody_knows_is_refused_and_gone(self, broker: Broker) -> None:
        access = Learner(JobLanes(broker), SigningKeys((OLD,)))
        delivery = await a_delivery(broker, NEW)
        assert await Deliveries(JobLanes(broker), KEYS, access).verified(delivery) is None
        assert access.asked == ["new"]
        assert await raw(broker).xlen(KEYS.dead) == 1
        assert await pending(broker, delivery.ticket.lane) == 0
