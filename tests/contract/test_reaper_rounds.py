"""When the reaper acts: not while the broker may only have been away, not while its hub stops, and never on its own."""

from typing import cast

import pytest
import structlog

from common.broker import Broker, connect
from common.clock import BrokerClock
from common.grid_records import HubRecord
from common.reconnections import CountedReconnections
from common.registry import Registry
from common.streams.changes import Changes
from common.streams.jobs import JobLanes, LaneName, Ticket
from common.streams.leftovers import Leftovers
from common.streams.replies import Doorbell
from common.streams.requests import OPEN_TTL_MS, Requests
from common.types import HubId, Lane, RequestId
from hub.grid.presence import Presence, hub_lease_ms
from hub.grid.registry_view import RegistryView
from hub.grid.steadiness import Steadiness
from hub.recovery import reaper as rounds
from hub.recovery.assembly import make_reaper
from hub.recovery.endings import CALM_S, DOUBT_S, SURE_S, Endings
from hub.recovery.facts import Facts
from hub.recovery.reaper import LANES_STEADY_S, Reaper
from hub.requests.dispatcher import Dispatcher
from hub.settings import HubSettings
from tests.contract.story import HUB as DEAD
from tests.contract.story import (
    KEYS,
    MODEL,
    NODE,
    TTLS,
    a_job,
    all_keys,
    claim_all,
    hash_of,
    held_by,
    pending,
    publish,
    raw,
)
from tests.support.ports import free_port

ME = HubId("hub-2")
LANE = LaneName(Lane.INTERACTIVE, MODEL)
SETTINGS = HubSettings()
LEASE_S = hub_lease_ms(SETTINGS) / 1000


class Around:
    """A hub around a reaper: its clock, which requests it holds, whether it is stopping."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.held: set[str] = set()
        self.is_draining = False
        self.open_count = 0
        self.reconnections = CountedReconnections()
        self.steadiness = Steadiness(self.reconnections, lambda: self.now_s)
        self.endings = Endings(lambda: self.now_s)

    def find(self, request: RequestId) -> object | None:
        return request if request in self.held else None

    async def adopt(self, request: RequestId, _facts: Facts) -> bool:
        """None of these stories has a request that can be resumed."""
        raise AssertionError(f"{request} is to be adopted")

    def reaper(self, broker: Broker) -> Reaper:
        lanes, clock = JobLanes(broker), BrokerClock(broker)
        return make_reaper(
            hub=ME,
            settings=SETTINGS,
            broker=broker,
            requests=Requests(broker, TTLS, ME),
            view=RegistryView(Registry(broker), Changes(broker), lanes, clock),
            clock=clock,
            holder=self,
            steadiness=self.steadiness,
            endings=self.endings,
            adopt=self.adopt,
        )


@pytest.fixture
def around() -> Around:
    return Around()


async def a_hub_dies(broker: Broker, hub: HubId = DEAD, request: str = "r1") -> None:
    await publish(broker, request)
    await raw(broker).smove(KEYS.open_requests(DEAD), KEYS.open_requests(hub), request)
    await Registry(broker).write_hub(HubRecord(hub, "", "", 0, 0, 1), 60_000)
    await raw(broker).delete(KEYS.hub(hub))


async def is_dealt_with(broker: Broker, hub: HubId = DEAD, request: str = "r1") -> bool:
    return not {KEYS.open_requests(hub), KEYS.open_requests(ME), a_job(request).reply} & await all_keys(broker)


async def test_a_hub_that_has_just_begun_gives_the_others_time_to_be_seen(broker: Broker, around: Around) -> None:
    await a_hub_dies(broker)
    reaper = around.reaper(broker)
    around.now_s += LEASE_S - 0.1
    await reaper.round()
    assert not await is_dealt_with(broker)
    around.now_s += 0.2
    await reaper.round()
    assert await is_dealt_with(broker)


async def test_after_the_broker_was_away_they_have_that_time_again(broker: Broker, around: Around) -> None:
    """All entries may have run out meanwhile, and each hub writes its own anew when it finds the broker."""
    await a_hub_dies(broker)
    reaper = around.reaper(broker)
    around.now_s += 3600
    around.reconnections.count += 1
    await reaper.round()
    assert not await is_dealt_with(broker)
    around.now_s += LEASE_S
    await reaper.round()
    assert await is_dealt_with(broker)


async def test_a_hub_whose_own_entry_had_run_out_does_not_think_the_others_dead(broker: Broker, around: Around) -> None:
    """As where the whole machine slept, or the broker."""
    requests = Requests(broker, TTLS, ME)
    doorbell, dispatcher = Doorbell(broker, ME), cast(Dispatcher, around)
    clock, registry = BrokerClock(broker), Registry(broker)
    presence = Presence(ME, SETTINGS, clock, registry, doorbell, requests, dispatcher, around.steadiness)
    await presence.beat()
    around.now_s += LEASE_S
    await presence.beat()
    assert around.steadiness.lasts(LEASE_S)
    await raw(broker).delete(KEYS.hub(ME))
    await presence.beat()
    assert not around.steadiness.lasts(LEASE_S)


async def test_each_beat_keeps_the_list_of_open_requests_for_long_after_the_hub(broker: Broker, around: Around) -> None:
    requests = Requests(broker, TTLS, DEAD)
    doorbell, dispatcher = Doorbell(broker, DEAD), cast(Dispatcher, around)
    clock, registry = BrokerClock(broker), Registry(broker)
    presence = Presence(DEAD, SETTINGS, clock, registry, doorbell, requests, dispatcher, around.steadiness)
    await publish(broker, "r1")
    await presence.beat()
    assert OPEN_TTL_MS - 60_000 < await raw(broker).pttl(KEYS.open_requests(DEAD)) <= OPEN_TTL_MS
    assert 0 < await raw(broker).pttl(KEYS.hub(DEAD)) <= LEASE_S * 1000
    await presence.leave()
    assert await Leftovers(broker).dead_hubs() == [DEAD], "others go on with what is open"


async def test_a_hub_that_is_stopping_takes_nothing_over(broker: Broker, around: Around) -> None:
    await a_hub_dies(broker)
    reaper, around.is_draining = around.reaper(broker), True
    around.now_s += 3600
    await reaper.round()
    assert not await is_dealt_with(broker)


async def test_its_own_requests_are_not_those_of_a_dead_hub(broker: Broker, around: Around) -> None:
    """Its own entry runs out where it could not reach the broker for a while."""
    await a_hub_dies(broker, ME)
    around.held, around.now_s = {"r1"}, around.now_s + 3600
    await around.reaper(broker).round()
    assert await Leftovers(broker).open_of(ME) == ["r1"]
    assert a_job("r1").reply in await all_keys(broker)


async def test_a_dead_hub_that_cannot_be_read_keeps_no_other_one_from_its_heirs(broker: Broker, around: Around) -> None:
    odd = HubId("an-odd-one")
    await a_hub_dies(broker, odd, "r2")
    await raw(broker).delete(KEYS.open_requests(odd))
    await raw(broker).set(KEYS.open_requests(odd), "text")
    await a_hub_dies(broker)
    around_reaper = around.reaper(broker)
    around.now_s += LEASE_S
    with structlog.testing.capture_logs() as told:
        for _ in range(3):
            await around_reaper.round()
    assert await is_dealt_with(broker)
    assert [one["doing"] for one in told if one["event"] == "recovery_failed"] == [f"hub {odd}"], "once"


async def test_a_request_of_its_own_that_it_does_not_know_is_ended_after_a_while(
    broker: Broker, around: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was publishing it, or taking it over, when something went wrong."""
    monkeypatch.setattr(rounds, "OWN_S", 0.0)
    for name in ("r1", "r2"):
        await publish(broker, name)
        await raw(broker).smove(KEYS.open_requests(DEAD), KEYS.open_requests(ME), name)
    around.held = {"r2"}
    reaper = around.reaper(broker)
    for _ in range(3):
        await reaper.round()
    assert sorted(await Leftovers(broker).open_of(ME)) == ["r1", "r2"], "it may be about to know it"
    monkeypatch.setattr(rounds, "STRAY_S", -1.0)
    for _ in range(2):
        await reaper.round()
    assert await Leftovers(broker).open_of(ME) == ["r2"]
    assert a_job("r1").reply not in await all_keys(broker)


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


async def test_lanes_are_looked_at_only_when_every_reply_would_have_been_restored(
    broker: Broker, around: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "LANES_S", 0.0)
    ticket = await publish(broker, "r1")
    await raw(broker).delete(a_job("r1").reply)
    reaper = around.reaper(broker)
    around.now_s += LANES_STEADY_S - 1
    await reaper.round()
    assert (await JobLanes(broker).fetch(ticket)).fields is not None
    around.now_s += 1
    await reaper.round()
    assert (await JobLanes(broker).fetch(ticket)).fields is None


async def test_a_broker_that_is_away_is_told_once_and_ends_no_reaper(around: Around) -> None:
    broker = connect(f"redis://127.0.0.1:{free_port()}/0", prefix="ghub:", client_name="contract")
    reaper = around.reaper(broker)
    around.now_s += 3600
    with structlog.testing.capture_logs() as told:
        for _ in range(3):
            await reaper.round()
    await broker.aclose()
    assert not around.steadiness.lasts(LEASE_S)
    assert [one["event"] for one in told] == ["recovery_failed"]
