"""Membership over the broker: who comes in while somebody else takes the right to away, and what is left after."""

import time
from dataclasses import dataclass, replace
from typing import Any

import pytest

from common.broker.broker import Broker
from common.broker.clock import BrokerClock
from common.broker.users import BrokerUsers
from common.errors import BrokerRefused
from common.records.credentials import Credentials, ProviderToken, digest_of
from common.records.grid import NodeRecord
from common.records.memberships import MEMBER_TTL_MS, Member, Memberships
from common.records.registry import FORGET_NODE_MS, Registry
from common.registration import RegistrationRequest
from common.report import EngineReport
from common.streams.changes import Changes
from common.streams.jobs import JobLanes
from common.types import NodeId, TokenId
from hub.access.broker_access import BrokerAccess
from hub.access.credential_table import CredentialTable
from hub.access.members import MemberBooks, Members
from hub.errors import BrokerAway, Conflict, NotFound, RequestFailed, Unauthorized
from hub.grid.registry_view import RegistryView
from hub.settings import HubSettings
from tests.contract.story import MODEL, NODE, all_keys, live_nodes, on_real_brokers, raw
from tests.contract.test_registry import RECORD

NOW_MS = 1_800_000_000_000
OTHER = NodeId("node-2")


def a_member(node: NodeId = NODE, token: str = "t1", at_ms: int = NOW_MS) -> Member:
    return Member(node, TokenId(token), (MODEL,), at_ms, "i1", "digest")


def record(node: NodeId, **more: Any) -> NodeRecord:
    return replace(RECORD, **{"node": node, "heartbeat_at": int(time.time() * 1000), **more})


def a_token(name: str = "a") -> ProviderToken:
    return ProviderToken(digest_of(f"the-secret-of-{name}"), name, created_at=1)


class TestBooks:
    async def test_a_member_is_read_back_as_it_was_entered(self, broker: Broker) -> None:
        books = Memberships(broker)
        assert await books.member(NODE) is None
        await books.enter(a_member())
        await books.enter(a_member(OTHER, "t2"))
        assert await books.member(NODE) == a_member()
        assert await books.members() == [a_member(), a_member(OTHER, "t2")]
        assert await books.count() == 2

    async def test_who_is_cut_off_leaves_nothing_but_the_mark_that_it_was(self, broker: Broker) -> None:
        books = Memberships(broker)
        await Registry(broker).write_node(record(NODE), 6000)
        await books.enter(a_member())
        await books.expel(NODE, NOW_MS)
        assert await Registry(broker).revoked() == {NODE}
        left = await all_keys(broker)
        assert left == {broker.keys.revoked}

    async def test_the_mark_goes_when_it_registers_again(self, broker: Broker) -> None:
        books = Memberships(broker)
        await books.expel(NODE, NOW_MS)
        await books.enter(a_member())
        assert await Registry(broker).revoked() == frozenset()

    async def test_names_that_nobody_renewed_for_a_month_are_forgotten(self, broker: Broker) -> None:
        books = Memberships(broker)
        await books.enter(a_member(OTHER))
        await books.enter(a_member(at_ms=NOW_MS + MEMBER_TTL_MS + 1))
        assert await books.count() == 1

    async def test_whatever_stands_in_its_hash_is_no_member_if_it_cannot_be_read(self, broker: Broker) -> None:
        await Memberships(broker).enter(a_member())
        await raw(broker).hset(broker.keys.member(NODE), "models", "[")
        assert await Memberships(broker).member(NODE) is None
        assert await Memberships(broker).members() == []


class TestRegistry:
    async def test_a_live_node_that_the_index_lost_comes_back_into_it(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hub.grid.live_nodes.INDEX_S", 0)
        registry, view = Registry(broker), a_view(broker)
        await registry.write_node(record(NODE), 60_000)
        await view.refresh()
        await raw(broker).delete(broker.keys.nodes)
        await view.refresh()
        assert set(view.nodes) == {NODE}
        assert await raw(broker).zscore(broker.keys.nodes, NODE) is not None

    async def test_a_node_that_says_it_is_another_is_nobody(self, broker: Broker) -> None:
        registry = Registry(broker)
        await registry.write_node(record(OTHER), 60_000)
        await raw(broker).hset(broker.keys.node(NODE), mapping=record(OTHER).to_hash())
        await registry.index_nodes({NODE: 2**41})
        assert await registry.node(NODE) is None
        assert [one.node for one in await live_nodes(registry, FORGET_NODE_MS)] == [OTHER]

    async def test_a_node_from_the_future_gets_no_place_for_ever(self, broker: Broker) -> None:
        registry = Registry(broker)
        lying = record(NODE, heartbeat_at=2**47)
        await raw(broker).hset(broker.keys.node(NODE), mapping=lying.to_hash())
        await live_nodes(registry, NOW_MS, [NODE])
        assert await raw(broker).zscore(broker.keys.nodes, NODE) == NOW_MS

    async def test_a_node_that_was_cut_off_is_not_there_whatever_it_writes(self, broker: Broker) -> None:
        view = a_view(broker)
        await Memberships(broker).expel(NODE, NOW_MS)
        await Registry(broker).write_node(record(NODE), 60_000)
        await view.refresh()
        assert NODE not in view.nodes
        assert view.models == {}
        assert view.revoked == {NODE}


@dataclass
class HubParts:
    """A hub's own copy of what concerns members."""

    members: Members
    credentials: Credentials
    table: CredentialTable


def a_view(broker: Broker) -> RegistryView:
    return RegistryView(Registry(broker), Changes(broker), JobLanes(broker), BrokerClock(broker))


def a_hub(broker: Broker, access: type[BrokerAccess] = BrokerAccess, **settings: Any) -> HubParts:
    read = HubSettings(**settings)
    credentials = Credentials(broker)
    table = CredentialTable(credentials, ())
    books = MemberBooks(credentials, table, Memberships(broker), Registry(broker), JobLanes(broker))
    clock = BrokerClock(broker)
    members = Members(books, access(read, BrokerUsers(broker)), clock, read, broker.keys.prefix)
    return HubParts(members, credentials, table)


def wish(name: str = NODE, *models: str, instance: str = "i1") -> RegistrationRequest:
    return RegistrationRequest(
        name=name, models=models or (MODEL,), engine=EngineReport(kind="ollama"), instance=instance
    )


@on_real_brokers
class TestRaces:
    async def test_a_node_that_registers_while_its_token_is_revoked_is_not_left_behind(self, broker: Broker) -> None:
        """Whichever comes first: the one who revokes does not see a member that is not yet entered."""
        revoker, token = a_hub(broker), a_token()

        class Slow(BrokerAccess):
            async def grant(self, *args: Any) -> Any:
                access = await super().grant(*args)
                assert await revoker.members.revoke(token) == []
                return access

        hub = a_hub(broker, Slow)
        await hub.credentials.add_token(token)
        with pytest.raises(Unauthorized):
            await hub.members.register(wish(), token, None)
        assert await BrokerUsers(broker).users() == []
        assert await hub.members.members() == []

    async def test_a_token_that_another_hub_revoked_is_not_taken_any_more(self, broker: Broker) -> None:
        hub, revoker, token = a_hub(broker), a_hub(broker), a_token()
        await hub.credentials.add_token(token)
        await hub.members.register(wish(), token, None)
        assert await revoker.members.revoke(token) == [NODE]
        with pytest.raises(Unauthorized):
            await hub.members.register(wish(), token, None)
        assert await BrokerUsers(broker).users() == []

    async def test_a_name_whose_token_is_gone_is_free_for_others(self, broker: Broker) -> None:
        hub, first, second = a_hub(broker), a_token("first"), a_token("second")
        for token in (first, second):
            await hub.credentials.add_token(token)
        await hub.members.register(wish(), first, None)
        with pytest.raises(Conflict, match="another token"):
            await hub.members.register(wish(), second, None)
        await hub.credentials.remove_token(first.digest)
        await hub.members.register(wish(), second, None)
        await hub.members.cut_off(NODE)

    async def test_of_two_processes_that_start_under_one_name_the_second_waits(self, broker: Broker) -> None:
        """The first has registered and not yet written its entry."""
        hub, token = a_hub(broker, heartbeat_s=60), a_token()
        await hub.credentials.add_token(token)
        await hub.members.register(wish(instance="first"), token, None)
        with pytest.raises(Conflict) as caught:
            await hub.members.register(wish(instance="second"), token, None)
        assert caught.value.code == "name_taken"
        assert caught.value.retry_after_s == 180
        await hub.members.register(wish(instance="first"), token, None)
        await hub.members.cut_off(NODE)

    async def test_a_hub_whose_access_fails_still_takes_the_node_s_jobs(self, broker: Broker) -> None:
        """If the broker lets it delete no users any more, all that is the hubs' own is done."""

        class Powerless(BrokerAccess):
            async def withdraw(self, node: NodeId) -> None:
                raise BrokerRefused(f"not allowed to delete {node}")

        hub, token = a_hub(broker, Powerless), a_token()
        await hub.credentials.add_token(token)
        await hub.members.register(wish(), token, None)
        with pytest.raises(BrokerAway, match="not allowed to delete"):
            await hub.members.cut_off(NODE)
        assert await Registry(broker).revoked() == {NODE}
        await BrokerUsers(broker).delete_user(NODE)

    async def test_a_user_whose_membership_was_forgotten_ends_with_the_next_revocation(self, broker: Broker) -> None:
        """Keys can be flushed or run out, the broker's users stay; whose token they were can no longer be told."""
        hub, lost, kept = a_hub(broker), a_token("lost"), a_token("kept")
        for token in (lost, kept):
            await hub.credentials.add_token(token)
        await hub.members.register(wish(), lost, None)
        await hub.members.register(wish(OTHER), kept, None)
        await raw(broker).delete(broker.keys.member(NODE), broker.keys.members)
        await hub.members.register(wish(OTHER), kept, None)
        assert await hub.members.revoke(lost) == []
        assert await BrokerUsers(broker).users() == [OTHER]
        await hub.members.cut_off(OTHER)

    async def test_only_members_can_be_cut_off(self, broker: Broker) -> None:
        with pytest.raises(NotFound):
            await a_hub(broker).members.cut_off(NODE)

    async def test_a_grid_takes_no_more_nodes_than_it_may(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hub.access.members.MOST_MEMBERS", 1)
        hub, token = a_hub(broker), a_token()
        await hub.credentials.add_token(token)
        await hub.members.register(wish(), token, None)
        with pytest.raises(RequestFailed, match="as many registered nodes"):
            await hub.members.register(wish(OTHER), token, None)
        await hub.members.register(wish(), token, None)
        await hub.members.cut_off(NODE)
