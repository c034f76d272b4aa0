"""When the reaper acts: not while the broker may only have been away, not while its hub stops, and never on its own."""

from typing import cast

import pytest
import structlog

from common.broker.broker import Broker, connect
from common.records.grid import HubRecord
from common.records.leftovers import Leftovers
from common.records.registry import Registry
from common.streams.jobs import JobLanes
from common.streams.replies import Doorbell
from common.streams.requests import OPEN_TTL_MS, Requests
from common.types import HubId
from hub.grid.presence import Presence, hub_lease_ms
from hub.recovery import reaper as rounds
from hub.recovery.reaper import LANES_STEADY_S
from hub.requests.dispatcher import Dispatcher
from tests.contract.around import ME, SETTINGS, Around, backstage
from tests.contract.story import HUB as DEAD
from tests.contract.story import (
    KEYS,
    TTLS,
    a_job,
    all_keys,
    publish,
    raw,
)
from tests.support.ports import free_port

LEASE_S = hub_lease_ms(SETTINGS) / 1000


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
    stage = backstage(broker, ME, requests=Requests(broker, TTLS, ME))
    presence = Presence(stage, Registry(broker), Doorbell(broker, ME), cast(Dispatcher, around), around.steadiness)
    await presence.beat()
    around.now_s += LEASE_S
    await presence.beat()
    assert around.steadiness.lasts(LEASE_S)
    await raw(broker).delete(KEYS.hub(ME))
    await presence.beat()
    assert not around.steadiness.lasts(LEASE_S)


async def test_each_beat_keeps_the_list_of_open_requests_for_long_after_the_hub(broker: Broker, around: Around) -> None:
    stage = backstage(broker, DEAD, requests=Requests(broker, TTLS, DEAD))
    presence = Presence(stage, Registry(broker), Doorbell(broker, DEAD), cast(Dispatcher, around), around.steadiness)
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
