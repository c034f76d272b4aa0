"""The registry: who is there shows, who is gone fades, and nobody's rubbish hides the others."""

import time
from dataclasses import replace
from typing import Any

import pytest

from common.broker.broker import Broker
from common.broker.clock import BrokerClock
from common.records.grid import HubRecord, NodeRecord
from common.records.registry import FORGET_NODE_MS, Registry
from common.streams.replies import Doorbell
from common.types import HubId, ModelId, NodeId, NodeState, RequestId
from tests.contract.story import HUB, KEYS, NODE, all_keys, eventually, hash_of, live_nodes, raw

NOW_MS = 1_700_000_000_000
RECORD = NodeRecord(
    node=NODE,
    instance="0123456789ab",
    version="0.1.0",
    hostname="büro-pc",
    state=NodeState.BUSY,
    reasons=("engine-down", "paused"),
    models=(ModelId("tiny:1b"), ModelId('org/"naïve" 模型')),
    loaded=(ModelId("tiny:1b"),),
    slots=4,
    requests=(RequestId("r1"), RequestId("r2")),
    engine={"kind": "llamacpp", "version": "b1", "url": "http://127.0.0.1:8000"},
    started_at=NOW_MS - 5000,
    heartbeat_at=NOW_MS,
    gpus=({"name": "H100", "memory_used_mib": 5, "utilization_pct": None},),
    public_url="https://node.example.org",
    running=({"id": "r1", "model": "tiny:1b", "attempt": 1, "tokens": 7},),
)


class TestNodes:
    async def test_a_node_shows_as_it_wrote_itself(self, broker: Broker) -> None:
        registry = Registry(broker)
        await registry.write_node(RECORD, 6000)
        assert await registry.node(NODE) == RECORD
        assert await live_nodes(registry, NOW_MS) == [RECORD]

    async def test_an_idle_node_without_anything_shows_too(self, broker: Broker) -> None:
        empty = replace(RECORD, reasons=(), models=(), loaded=(), requests=(), engine={}, gpus=(), public_url="")
        await Registry(broker).write_node(empty, 6000)
        assert await Registry(broker).node(NODE) == empty

    async def test_its_hash_is_plain_to_read(self, broker: Broker) -> None:
        await Registry(broker).write_node(RECORD, 6000)
        shown = await hash_of(broker, KEYS.node(NODE))
        assert (shown["state"], shown["slots"], shown["reasons"]) == ("busy", "4", '["engine-down","paused"]')
        assert shown["models"] == '["tiny:1b","org/\\"naïve\\" 模型"]'

    async def test_each_heartbeat_renews_it(self, broker: Broker) -> None:
        registry = Registry(broker)
        await registry.write_node(RECORD, 1000)
        await registry.write_node(replace(RECORD, state=NodeState.IDLE, heartbeat_at=NOW_MS + 2000), 6000)
        (node,) = await live_nodes(registry, NOW_MS)
        assert node.state is NodeState.IDLE
        assert 1000 < await raw(broker).pttl(KEYS.node(NODE)) <= 6000

    async def test_a_node_that_died_fades_by_itself(self, broker: Broker) -> None:
        registry = Registry(broker)
        await registry.write_node(RECORD, 50)
        await registry.write_node(replace(RECORD, node=NodeId("alive")), 60_000)

        async def has_faded() -> bool:
            return [node.node for node in await live_nodes(registry, NOW_MS)] == ["alive"]

        await eventually(has_faded, "the dead node is gone")
        assert await registry.node(NODE) is None

    async def test_names_long_gone_are_swept_from_the_index(self, broker: Broker) -> None:
        registry = Registry(broker)
        await registry.write_node(RECORD, 60_000)
        await registry.write_node(replace(RECORD, node=NodeId("late"), heartbeat_at=NOW_MS + FORGET_NODE_MS), 60_000)
        assert len(await live_nodes(registry, NOW_MS + FORGET_NODE_MS - 1)) == 2
        assert [node.node for node in await live_nodes(registry, NOW_MS + FORGET_NODE_MS + 1)] == ["late"]
        assert await raw(broker).zrange(KEYS.nodes, 0, -1) == [b"late"]

    async def test_a_node_that_leaves_is_gone_at_once(self, broker: Broker) -> None:
        registry = Registry(broker)
        await registry.write_node(RECORD, 6000)
        await registry.remove_node(NODE)
        assert await live_nodes(registry, NOW_MS) == []
        assert await all_keys(broker) == set()
        await registry.remove_node(NODE)

    async def test_an_empty_grid_has_no_nodes(self, broker: Broker) -> None:
        assert await live_nodes(Registry(broker), NOW_MS) == []
        assert await Registry(broker).node(NODE) is None

    async def test_every_key_ends_by_itself(self, broker: Broker) -> None:
        await Registry(broker).write_node(RECORD, 6000)
        assert all([await raw(broker).pttl(key) > 0 for key in await all_keys(broker)])

    @pytest.mark.parametrize(
        "garbled",
        [
            {},
            {"state": "dancing"},
            {"slots": "many"},
            {"slots": b"\xff"},
            {"models": "{"},
            {"models": "7"},
            {"models": "null"},
            {"models": '"tiny:1b"'},
            {"models": "[1, 2]"},
            {"reasons": "{}"},
            {"engine": "[]"},
            {"requests": "[null]"},
            {"gpus": "5"},
            {"slots": "9" * 4000},
            {"slots": "-1"},
            {"started_at": str(2**53)},
            {"heartbeat_at": "-" + "9" * 400},
            {"engine": '{"a":' + "[" * 300 + "]" * 300 + "}"},
            {"engine": '{"a":{"b":1}}'},
            {"gpus": '[{"a":[{}]}]'},
            {"hostname": "x" * (2 * 2**20 + 1)},
        ],
        ids=lambda fields: str(fields)[:40],
    )
    async def test_a_node_that_writes_rubbish_is_passed_over(self, broker: Broker, garbled: dict[str, Any]) -> None:
        """It might be of another version; the hubs must go on seeing the others."""
        registry, stranger = Registry(broker), NodeId("stranger")
        await registry.write_node(RECORD, 6000)
        await registry.write_node(replace(RECORD, node=stranger), 6000)
        if garbled:
            await raw(broker).hset(KEYS.node(stranger), mapping=garbled)
        else:
            await raw(broker).hdel(KEYS.node(stranger), "node", "slots")
        assert await live_nodes(registry, NOW_MS) == [RECORD]
        assert await registry.node(stranger) is None

    async def test_of_a_node_with_too_many_models_so_many_show_as_it_may_have(self, broker: Broker) -> None:
        """Every hub goes through them each second; and none can ask for one whose name is longer than a body allows."""
        models = [ModelId("x" * 257), *(ModelId(f"m{number}") for number in range(5000))]
        await Registry(broker).write_node(replace(RECORD, models=tuple(models)), 6000)
        (node,) = await live_nodes(Registry(broker), NOW_MS)
        assert node.models == tuple(models[1:4097])

    @pytest.mark.parametrize("told", ["javascript:alert(1)", "data:text/html,x", "//evil", "https://" + "x" * 1024])
    async def test_nobody_is_sent_to_what_is_no_web_address(self, broker: Broker, told: str) -> None:
        await Registry(broker).write_node(replace(RECORD, public_url=told), 6000)
        (node,) = await live_nodes(Registry(broker), NOW_MS)
        assert node.public_url == ""

    async def test_a_name_that_is_no_text_is_passed_over(self, broker: Broker) -> None:
        await Registry(broker).write_node(RECORD, 6000)
        await raw(broker).zadd(KEYS.nodes, {b"\xff": NOW_MS})
        assert await live_nodes(Registry(broker), NOW_MS) == [RECORD]

    async def test_fields_of_a_later_version_are_passed_over(self, broker: Broker) -> None:
        await Registry(broker).write_node(RECORD, 6000)
        await raw(broker).hset(KEYS.node(NODE), "temperature_c", "61")
        assert await Registry(broker).node(NODE) == RECORD

    async def test_fields_that_an_earlier_version_had_not_are_left_open(self, broker: Broker) -> None:
        await Registry(broker).write_node(RECORD, 6000)
        await raw(broker).hdel(KEYS.node(NODE), "gpus", "public_url")
        assert await Registry(broker).node(NODE) == replace(RECORD, gpus=(), public_url="")


class TestHubs:
    RECORD = HubRecord(HUB, "127.0.0.1:8080", "0.1.0", 7, NOW_MS)

    async def test_a_hub_shows_and_fades(self, broker: Broker) -> None:
        await Registry(broker).write_hub(self.RECORD, 6000)
        shown = await hash_of(broker, KEYS.hub(HUB))
        assert (shown["address"], shown["open_requests"]) == ("127.0.0.1:8080", "7")
        assert 0 < await raw(broker).pttl(KEYS.hub(HUB)) <= 6000

    async def test_a_hub_that_leaves_takes_its_doorbell_along(self, broker: Broker) -> None:
        other = HubId("hub-2")
        for hub in (HUB, other):
            await Registry(broker).write_hub(replace(self.RECORD, hub=hub), 6000)
            await Doorbell(broker, hub).keep(6000)
        await Registry(broker).remove_hub(HUB)
        assert await all_keys(broker) == {KEYS.hub(other), KEYS.doorbell(other), KEYS.hubs}


class AskedEarlier:
    """A local clock that was so many seconds behind when it was first looked at: as if the next look took that long."""

    def __init__(self, seconds: float) -> None:
        self._behind = iter([seconds])

    def monotonic(self) -> float:
        return time.monotonic() - next(self._behind, 0)


class TestClock:
    async def test_it_tells_the_broker_s_time_whatever_the_local_clock_says(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("common.broker.clock.time.time", lambda: 1_000_000.0)
            clock = BrokerClock(broker)
        assert clock.now_ms() == pytest.approx(1_000_000_000, abs=60_000)
        await clock.sync()
        assert clock.now_ms() == pytest.approx(time.time() * 1000, abs=1000)

    async def test_it_goes_on_between_two_looks(self, broker: Broker) -> None:
        clock = BrokerClock(broker)
        await clock.sync()
        before = clock.now_ms()
        give_up_at = time.monotonic() + 5
        while clock.now_ms() < before + 20:
            assert time.monotonic() < give_up_at
        assert clock.now_ms() < before + 5000

    async def test_a_broker_that_hung_with_the_answer_does_not_mislead_it(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = BrokerClock(broker)
        await clock.sync()
        clock._offset_ms -= 40  # that took 80 ms, and all of them on its way back
        with monkeypatch.context() as patch:
            patch.setattr("common.broker.clock.time", AskedEarlier(5))  # half of that would be 2.5 s too much
            await clock.sync()
        assert clock.now_ms() == pytest.approx(time.time() * 1000, abs=1000)

    async def test_a_slow_answer_that_says_otherwise_is_believed_all_the_same(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = BrokerClock(broker)
        await clock.sync()
        clock._offset_ms -= 3_600_000  # the broker's clock was set
        with monkeypatch.context() as patch:
            patch.setattr("common.broker.clock.time", AskedEarlier(5))
            await clock.sync()
        assert clock.now_ms() == pytest.approx(time.time() * 1000, abs=3500)
