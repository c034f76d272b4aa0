"""The broker's users for nodes: made, renewed and deleted by hubs, as far as the broker lets them."""

from collections.abc import AsyncIterator

import pytest
import redis
from redis.asyncio import Redis

from common.broker.broker import Broker, connect
from common.broker.users import BrokerUsers, password_digest
from common.errors import BrokerRefused
from common.streams.jobs import JobLanes, Ticket
from common.types import ModelId, NodeId
from tests.contract.story import LANES, MODEL, NODE, forget_scripts, on_real_brokers, publish, raw

pytestmark = on_real_brokers

FIRST, SECOND = "the-first-password", "the-second-password"
DIGESTS = [password_digest(FIRST)]


@pytest.fixture
async def users(broker: Broker) -> AsyncIterator[BrokerUsers]:
    users = BrokerUsers(broker)
    yield users
    for node in await users.users():
        await users.delete_user(node)


def as_node(broker: Broker, password: str, node: NodeId = NODE) -> Redis:
    port = raw(broker).connection_pool.connection_kwargs["port"]
    return Redis(
        port=port, username=f"ghub:provider:{node}", password=password, protocol=2, single_connection_client=True
    )


async def test_a_renewal_leaves_open_connections_alone(broker: Broker, users: BrokerUsers) -> None:
    await users.set_user(NODE, [MODEL], DIGESTS)
    async with as_node(broker, FIRST) as node:
        await node.ping()
        assert node.connection is not None
        before = node.connection.repr_pieces(), node.connection._writer
        await users.set_user(NODE, [MODEL, ModelId("second:1b")], [password_digest(SECOND)])
        await node.ping()
        assert (node.connection.repr_pieces(), node.connection._writer) == before
        assert await node.xack("ghub:{jobs}:retry:second:1b", "providers", "1-1") == 0


async def test_a_renewal_takes_old_models_and_passwords_away(broker: Broker, users: BrokerUsers) -> None:
    await users.set_user(NODE, [MODEL], DIGESTS)
    await users.set_user(NODE, [ModelId("second:1b")], [password_digest(SECOND)])
    async with as_node(broker, SECOND) as node:
        with pytest.raises(redis.exceptions.NoPermissionError):
            await node.xack(f"ghub:{{jobs}}:retry:{MODEL}", "providers", "1-1")
    with pytest.raises(redis.AuthenticationError):
        async with as_node(broker, FIRST) as node:
            await node.ping()


async def test_a_user_that_is_deleted_is_cut_off_at_once(broker: Broker, users: BrokerUsers) -> None:
    await users.set_user(NODE, [MODEL], DIGESTS)
    async with as_node(broker, FIRST) as node:
        await node.ping()
        assert await users.delete_user(NODE)
        assert node.connection is not None
        with pytest.raises(redis.ConnectionError):
            await node.connection.read_response()
    assert not await users.delete_user(NODE)


async def test_only_this_grid_s_users_are_listed(broker: Broker, users: BrokerUsers) -> None:
    await raw(broker).execute_command("ACL", "SETUSER", "somebody", "on", "nopass", "+ping")
    for node in ("b", "a"):
        await users.set_user(NodeId(node), [MODEL], DIGESTS)
    try:
        assert await users.users() == ["a", "b"]
    finally:
        await raw(broker).execute_command("ACL", "DELUSER", "somebody")


async def test_a_node_claims_and_settles_by_scripts_that_hubs_loaded(broker: Broker, users: BrokerUsers) -> None:
    await publish(broker, "r1")
    await forget_scripts(broker)
    await users.load_scripts()
    await users.set_user(NODE, [MODEL], DIGESTS)
    port = raw(broker).connection_pool.connection_kwargs["port"]
    url = f"redis://ghub%3Aprovider%3A{NODE}:{FIRST}@127.0.0.1:{port}/0"
    member = connect(url, prefix="ghub:", client_name="member")
    try:
        (delivery,) = await JobLanes(member).claim(NODE, LANES, 1)
        await JobLanes(member).settle(Ticket(delivery.ticket.lane, delivery.ticket.entry), "r1")
    finally:
        await member.aclose()
    assert await raw(broker).xlen(broker.keys.lane(*delivery.ticket.lane)) == 0


async def test_a_broker_that_asks_strangers_for_a_password_is_told_from_one_that_does_not(
    broker: Broker, users: BrokerUsers
) -> None:
    assert await users.is_open_to_all()
    port = raw(broker).connection_pool.connection_kwargs["port"]
    await raw(broker).execute_command("ACL", "SETUSER", "admin", "on", f">{FIRST}", "+@all", "~*")
    admin = connect(f"redis://admin:{FIRST}@127.0.0.1:{port}/0", prefix="ghub:", client_name="admin")
    try:
        await admin.commands.ping()
        await raw(admin).execute_command("ACL", "SETUSER", "default", "resetpass")
        assert not await BrokerUsers(admin).is_open_to_all()
    finally:
        await raw(admin).execute_command("ACL", "SETUSER", "default", "on", "nopass")
        await raw(broker).execute_command("ACL", "DELUSER", "admin")
        await admin.aclose()


async def test_a_hub_without_the_right_hears_which_setting_helps(broker: Broker, users: BrokerUsers) -> None:
    rules = ("on", f">{FIRST}", "+@all", "-@admin", "~*")
    await raw(broker).execute_command("ACL", "SETUSER", "hub", *rules)
    port = raw(broker).connection_pool.connection_kwargs["port"]
    hub = connect(f"redis://hub:{FIRST}@127.0.0.1:{port}/0", prefix="ghub:", client_name="hub")
    try:
        for ask in (
            lambda: BrokerUsers(hub).set_user(NODE, [MODEL], DIGESTS),
            lambda: BrokerUsers(hub).delete_user(NODE),
            lambda: BrokerUsers(hub).users(),
        ):
            with pytest.raises(BrokerRefused, match=r"GHUB_HUB_ACL=print.*GHUB_HUB_ACL=off"):
                await ask()
    finally:
        await hub.aclose()
        await raw(broker).execute_command("ACL", "DELUSER", "hub")
    assert await users.users() == []
