"""What a hub reads of its nodes: those that may have changed, and no others; and how a node keeps its entry."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from common.broker.acl import provider_rules, user_name
from common.broker.broker import Broker, connect
from common.errors import BrokerUnavailable
from common.records.grid import NodeRecord
from common.records.registry import RENEW_NODE_MS, Registry
from common.streams.changes import Changes
from common.types import ModelId, NodeId, NodeState, RequestId
from hub.grid.live_nodes import LiveNodes
from provider.presence.entry import NodeEntry
from tests.contract.story import KEYS, NODE, hash_of, on_real_brokers, raw
from tests.contract.test_registry import NOW_MS, RECORD
from tests.support.brokers import BrokerProcess

LEASE_MS = 6000
OTHER = NodeId("node-2")


class CountedRegistry(Registry):
    """Remembers whose entries were read."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self.asked: list[NodeId] = []
        self.fails = False

    async def entries(self, nodes):  # type: ignore[no-untyped-def]
        self.asked += nodes
        if self.fails:
            raise BrokerUnavailable("for the test")
        return await super().entries(nodes)


class Look:
    """One hub's live nodes, at a time that the test sets."""

    def __init__(self, broker: Broker, now_ms: Callable[[], int]) -> None:
        self.registry = CountedRegistry(broker)
        self.live = LiveNodes(self.registry, Changes(broker), LEASE_MS)
        self._now_ms = now_ms

    async def __call__(self, *, at_all: bool = False) -> list[NodeId]:
        """Look once; whose entries were read."""
        self.registry.asked = []
        await self.live.look(self._now_ms(), at_all=at_all)
        return sorted(self.registry.asked)

    @property
    def there(self) -> set[NodeId]:
        return set(self.live.records)


@pytest.fixture
async def look(broker: Broker, now_ms: Callable[[], int]) -> Look:
    return Look(broker, now_ms)


Beat = Callable[..., Awaitable[NodeRecord]]


@pytest.fixture
def entry(broker: Broker) -> NodeEntry:
    return NodeEntry(NODE, Registry(broker), Changes(broker), LEASE_MS)


@pytest.fixture
def beat(entry: NodeEntry, now_ms: Callable[[], int]) -> Beat:
    async def once(*, index: bool = True, **fields: object) -> NodeRecord:
        record = replace(RECORD, heartbeat_at=now_ms(), **fields)  # type: ignore[arg-type]
        await entry.renew(record, index=index)
        return record

    return once


class TestLooking:
    async def test_a_node_that_only_renews_itself_is_not_read_again(self, look: Look, beat: Beat) -> None:
        await beat()
        assert await look() == [NODE]
        await look()  # what was told before the first look is heard now
        await beat(gpus=({"name": "H100", "utilization_pct": 93},), running=())
        assert await look() == []
        assert look.there == {NODE}

    @pytest.mark.parametrize(
        "changed",
        [
            {"state": NodeState.IDLE},
            {"reasons": ()},
            {"models": (ModelId("new:1b"),)},
            {"loaded": ()},
            {"slots": 9},
            {"requests": (RequestId("r9"),)},
            {"engine": {"kind": "vllm"}},
            {"instance": "another"},
        ],
        ids=lambda changed: next(iter(changed)),
    )
    async def test_what_matters_is_read_as_soon_as_it_changes(
        self, look: Look, beat: Beat, changed: dict[str, object]
    ) -> None:
        await beat()
        await look()
        await look()
        record = await beat(**changed)
        assert await look() == [NODE]
        assert look.live.records[NODE].gist == replace(record, lease_ms=LEASE_MS).gist

    async def test_a_node_is_read_when_its_lease_could_have_run_out(self, broker: Broker, look: Look) -> None:
        entry = NodeEntry(NODE, Registry(broker), Changes(broker), LEASE_MS)
        await entry.renew(replace(RECORD, heartbeat_at=int(time.time() * 1000) - LEASE_MS), index=True)
        await look()
        await look()
        assert await look() == [NODE]
        await raw(broker).delete(KEYS.node(NODE))  # without a word, as a lease ends
        await look()
        assert look.there == set()

    async def test_reading_one_that_has_not_changed_changes_nothing_but_when_it_was_heard(
        self, broker: Broker, look: Look
    ) -> None:
        """Else each hub would build its picture of the grid anew each second."""
        now = int(time.time() * 1000)
        old = replace(RECORD, heartbeat_at=now)  # of an earlier version: it is read each time
        await Registry(broker).write_node(old, 60_000)
        await look()
        record, changes = look.live.records[NODE], look.live.changes
        busy = replace(old, heartbeat_at=now + 2000, gpus=({"name": "H100", "utilization_pct": 97},))
        await Registry(broker).write_node(busy, 60_000)
        await look()
        assert (look.live.records[NODE], look.live.changes) == (record, changes)
        assert look.live.heard_at_ms[NODE] == now + 2000
        await look(at_all=True)
        assert look.live.records[NODE] == busy
        await Registry(broker).write_node(replace(busy, slots=9), 60_000)
        await look()
        assert (look.live.records[NODE].slots, look.live.changes) == (9, changes + 2)
        await raw(broker).hset(KEYS.node(NODE), "heartbeat_at", "yesterday")
        await look()
        assert look.there == set()

    async def test_a_node_that_left_in_order_is_gone_at_once(self, look: Look, beat: Beat, entry: NodeEntry) -> None:
        await beat()
        await look()
        await entry.remove(index=True)
        await look()
        assert look.there == set()

    async def test_a_node_of_an_earlier_version_is_read_each_time(self, broker: Broker, look: Look) -> None:
        now = int(time.time() * 1000)
        await Registry(broker).write_node(replace(RECORD, heartbeat_at=now), 60_000)
        for _ in range(3):
            assert await look() == [NODE]

    async def test_nobody_is_believed_to_live_longer_than_the_grid_s_leases(self, broker: Broker, look: Look) -> None:
        now = int(time.time() * 1000)
        lying = replace(RECORD, heartbeat_at=now + 10**9, lease_ms=2**31 - 1)
        await Registry(broker).write_node(lying, 60_000)
        await look()
        assert look.live._due_at[NODE] - time.monotonic() <= LEASE_MS / 1000

    async def test_a_new_node_is_found_though_it_tells_nobody(self, broker: Broker, look: Look, beat: Beat) -> None:
        await beat()
        await look()
        other = replace(RECORD, node=OTHER, heartbeat_at=int(time.time() * 1000))
        await Registry(broker).write_node(other, 60_000)
        await look()
        assert look.there == {NODE, OTHER}

    async def test_one_that_comes_back_is_found_though_the_index_is_another_s(
        self, broker: Broker, look: Look, beat: Beat
    ) -> None:
        """A registered node writes its own entry and no more."""
        await beat()
        await look()
        await raw(broker).delete(KEYS.node(NODE))
        await look(at_all=True)
        assert look.there == set()
        await raw(broker).delete(KEYS.nodes)
        await beat(index=False)
        await look()
        assert look.there == {NODE}

    async def test_all_are_read_where_that_is_asked_for(self, look: Look, beat: Beat) -> None:
        await beat()
        await look()
        await look()
        await beat(gpus=())
        assert await look(at_all=True) == [NODE]
        assert look.live.records[NODE].gpus == ()

    async def test_a_change_is_read_though_the_look_that_heard_of_it_failed(self, look: Look, beat: Beat) -> None:
        await beat()
        await look()
        await look()
        await beat(slots=7)
        look.registry.fails = True
        with pytest.raises(BrokerUnavailable):
            await look()
        look.registry.fails = False
        assert await look() == [NODE]
        assert look.live.records[NODE].slots == 7

    async def test_one_that_is_doubted_is_read(self, look: Look, beat: Beat) -> None:
        await beat()
        await look()
        await look()
        look.live.doubt(NODE)
        look.live.doubt(OTHER)
        assert await look() == [NODE]

    async def test_names_that_no_index_has_are_not_looked_for(self, broker: Broker, look: Look) -> None:
        await Changes(broker).tell(NodeId("made-up"))
        assert await look() == []

    async def test_what_is_no_hint_is_passed_over(self, broker: Broker, look: Look, beat: Beat) -> None:
        await beat()
        await raw(broker).xadd(KEYS.changes, {"rubbish": b"\xff"})
        await look()
        assert look.there == {NODE}


class TestKeepingTheEntry:
    async def test_a_heartbeat_writes_what_changed(self, broker: Broker, beat: Beat) -> None:
        await beat()
        await raw(broker).hset(KEYS.node(NODE), "version", "by another hand")
        record = await beat(slots=2)
        shown = await hash_of(broker, KEYS.node(NODE))
        assert (shown["version"], shown["slots"]) == ("by another hand", "2")
        assert shown["heartbeat_at"] == str(record.heartbeat_at)
        assert 0 < await raw(broker).pttl(KEYS.node(NODE)) <= LEASE_MS

    async def test_an_entry_that_was_lost_is_whole_after_the_next_heartbeat(self, broker: Broker, beat: Beat) -> None:
        await beat()
        for key in (KEYS.node(NODE), KEYS.nodes):
            await raw(broker).delete(key)
        record = await beat()
        assert await Registry(broker).node(NODE) == replace(record, lease_ms=LEASE_MS)
        assert await raw(broker).zscore(KEYS.nodes, NODE) == record.heartbeat_at

    async def test_its_place_in_the_index_is_renewed_before_it_is_swept(self, broker: Broker, entry: NodeEntry) -> None:
        for number in range(4):
            await entry.renew(replace(RECORD, heartbeat_at=NOW_MS + number * RENEW_NODE_MS), index=True)
        assert await raw(broker).zscore(KEYS.nodes, NODE) == NOW_MS + 2 * RENEW_NODE_MS

    @on_real_brokers
    async def test_a_node_that_an_earlier_hub_let_in_says_that_it_tells_nothing(
        self, broker: Broker, own_server: BrokerProcess
    ) -> None:
        """Its broker user may not write to the changes: hubs of this version look at it each time."""
        del broker
        admin = connect(own_server.url, prefix="ghub:", client_name="admin")
        rules = [rule.replace(f" %W~{KEYS.changes}", "") for rule in provider_rules(KEYS, NODE, [])]
        await raw(admin).execute_command("ACL", "SETUSER", user_name(KEYS, NODE), "reset", "on", ">secret", *rules)
        node = connect(
            own_server.url, prefix="ghub:", client_name="node", credentials=lambda: (user_name(KEYS, NODE), "secret")
        )
        try:
            entry = NodeEntry(NODE, Registry(node), Changes(node), LEASE_MS)
            now = int(time.time() * 1000)
            for number in range(2):
                await entry.renew(replace(RECORD, heartbeat_at=now + number, slots=5 + number), index=False)
                found = await Registry(admin).node(NODE)
                assert found is not None
                assert (found.slots, found.lease_ms) == (5 + number, 0)
            assert await raw(admin).acl_log() != []
        finally:
            await node.aclose()
            await admin.aclose()
