"""Requests that this hub has ended, of which a server of the broker that took over has not heard."""

import pytest

from common.broker.broker import Broker
from common.records.leftovers import Leftovers
from common.streams.jobs import JobLanes, LaneName, Ticket
from common.types import Lane, RequestId
from hub.recovery import reaper as rounds
from hub.recovery.endings import CALM_S, DOUBT_S, SURE_S
from tests.contract.around import ME, Around
from tests.contract.story import HUB as DEAD
from tests.contract.story import (
    KEYS,
    MODEL,
    NODE,
    a_job,
    all_keys,
    claim_all,
    hash_of,
    held_by,
    pending,
    publish,
    raw,
)

LANE = LaneName(Lane.INTERACTIVE, MODEL)


@pytest.fixture
def around() -> Around:
    return Around()


async def test_a_request_of_its_own_that_it_has_ended_is_ended_again_where_the_broker_forgot_it(
    broker: Broker, around: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that has become the master lacks the last writes."""
    monkeypatch.setattr(rounds, "OWN_S", 0.0)
    for name in ("r1", "r2"):
        await publish(broker, name)
        await raw(broker).smove(KEYS.open_requests(DEAD), KEYS.open_requests(ME), name)
        around.endings.note(RequestId(name), {"status": "done"}, None)
        around.now_s += SURE_S
    around.now_s += 0.1  # r1 ended twice as long ago as the broker needs to hear of it, r2 just as long
    around.endings.note(RequestId("r2"), {"status": "done"}, None)
    reaper = around.reaper(broker)
    for _ in range(2):
        await reaper.round()
    assert await Leftovers(broker).open_of(ME) == ["r2"]
    assert (await hash_of(broker, KEYS.request(RequestId("r1"))))["status"] == "done"
    assert a_job("r1").reply not in await all_keys(broker)


class TestEndingsThatAFailoverForgot:
    """The replica that took over never heard that the jobs were settled, but this hub's later words it has."""

    @pytest.fixture(autouse=True)
    async def _ended(self, broker: Broker, around: Around, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rounds, "OWN_S", 0.0)
        around.now_s += 100
        for name in ("r1", "r2"):
            ticket = await publish(broker, name)
            around.endings.note(RequestId(name), {"status": "done"}, ticket)
            await raw(broker).srem(KEYS.open_requests(DEAD), name)
        await claim_all(broker)
        await JobLanes(broker).settle(ticket, RequestId("r2"))  # of this one the replica knew

    async def rounds_after(self, broker: Broker, around: Around, break_s: float, until_s: float) -> int:
        """How many jobs are claimed after some rounds, in which the broker breaks and comes back."""
        reaper = around.reaper(broker)
        around.now_s += break_s
        around.reconnections.count += 1
        await reaper.round()
        assert await pending(broker, LANE) == 1, "too early: those who write may not have found the new master"
        around.now_s += until_s
        for _ in range(2):  # what is found in one is ended in the next
            await reaper.round()
        return await pending(broker, LANE)

    async def test_they_are_ended_again_once_the_broker_is_calm(self, broker: Broker, around: Around) -> None:
        assert await self.rounds_after(broker, around, DOUBT_S - 1, CALM_S) == 0
        assert (await hash_of(broker, KEYS.request(RequestId("r1"))))["status"] == "done"
        assert a_job("r1").reply not in await all_keys(broker)
        assert a_job("r2").reply in await all_keys(broker), "what was settled is let be"

    async def test_a_lane_that_is_none_hides_no_other(self, broker: Broker, around: Around) -> None:
        await raw(broker).set(KEYS.lane(Lane.BATCH, MODEL), "rubbish")
        around.endings.note(RequestId("r0"), {"status": "done"}, Ticket(LaneName(Lane.BATCH, MODEL), b"1-1"))
        assert await self.rounds_after(broker, around, 1, CALM_S) == 0

    async def test_one_that_ended_as_the_broker_came_back_is_ended_again(self, broker: Broker, around: Around) -> None:
        around.now_s -= 1
        assert await self.rounds_after(broker, around, 0, CALM_S) == 0

    async def test_one_that_ended_long_before_is_known(self, broker: Broker, around: Around) -> None:
        assert await self.rounds_after(broker, around, DOUBT_S + 1, CALM_S) == 1

    async def test_another_job_in_its_place_is_let_be(self, broker: Broker, around: Around) -> None:
        ticket = (await held_by(broker, NODE))[0].ticket
        around.endings.note(RequestId("r3"), {"status": "done"}, ticket)
        around.endings.note(RequestId("r1"), {"status": "done"}, None)
        assert await self.rounds_after(broker, around, 1, CALM_S) == 1
