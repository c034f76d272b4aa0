"""A node and its own lane: it takes what lies there, gives back what it had, and works without it where it must."""

from collections.abc import AsyncIterator

import pytest

from common.broker.acl import provider_rules, user_name
from common.broker.broker import Broker, connect
from common.broker.users import BrokerUsers
from common.signing import SigningKeys
from common.streams.jobs import JobLanes, LaneName, near_lane
from common.streams.requests import SetAside
from common.wire import ReplyEntry
from provider.membership.access import SharedAccess
from tests.contract.story import (
    KEYS,
    LANES,
    MODEL,
    NODE,
    a_job,
    at_work,
    claim_all,
    entries_of,
    eventually,
    on_real_brokers,
    publish,
    raw,
)
from tests.contract.test_adopting import Desk

NEAR = near_lane(NODE)
REPLY = a_job().reply


class Told(SharedAccess):
    """Access as a hub gives it that has made all lanes, whether or not the broker's user may read them."""

    async def refresh(self) -> None:
        self._made = frozenset(self._wanted())

    @property
    def near(self) -> LaneName | None:
        return NEAR


def desk_of(broker: Broker) -> Desk:
    return Desk(broker, access=Told(JobLanes(broker), lambda: [MODEL], SigningKeys()))


@pytest.fixture
async def desk(broker: Broker) -> AsyncIterator[Desk]:
    """A node that knows of its own lane; its writer runs."""
    await JobLanes(broker).ensure([NEAR, *LANES])
    desk = desk_of(broker)
    await desk.access.refresh()
    async with at_work(desk.writer.run()):
        yield desk


async def test_a_job_that_was_set_aside_is_taken(broker: Broker, desk: Desk) -> None:
    await publish(broker, "r1", near=SetAside(NODE, 1))
    async with at_work(desk.consumer.run()):

        async def is_over() -> bool:
            return len(await entries_of(broker, REPLY)) > 1

        await eventually(is_over, "it was begun, and its end was said")
    assert (await entries_of(broker, REPLY))[0] == ("1-0", ReplyEntry(claim=NODE))


async def test_one_that_a_former_process_had_begun_is_given_back(broker: Broker, desk: Desk) -> None:
    await publish(broker, "r1", near=SetAside(NODE, 1))
    assert len(await claim_all(broker, [NEAR])) == 1
    await raw(broker).xadd(REPLY, {**ReplyEntry(claim=NODE).to_fields()}, id="1-0")
    await desk.look()
    assert (await entries_of(broker, REPLY))[-1] == ("1-1", ReplyEntry(release="restarted"))


@on_real_brokers
async def test_a_node_whose_user_has_the_rules_of_a_former_version_works_without(broker: Broker) -> None:
    await JobLanes(broker).ensure([NEAR, *LANES])
    await publish(broker, "r1")
    await BrokerUsers(broker).load_scripts()
    former = [rule.replace(f" ~{KEYS.lane(*NEAR)}", "") for rule in provider_rules(KEYS, NODE, [MODEL])]
    user, admin = user_name(KEYS, NODE), raw(broker)
    await admin.execute_command("ACL", "SETUSER", user, "reset", "on", ">secret", *former)
    port = admin.connection_pool.connection_kwargs["port"]
    own = connect(
        f"redis://127.0.0.1:{port}/0", prefix="ghub:", client_name="member", credentials=lambda: (user, "secret")
    )
    try:
        desk = desk_of(own)
        await desk.access.refresh()
        assert desk.lanes.near == NEAR
        async with at_work(desk.writer.run(), desk.consumer.run()):

            async def is_over() -> bool:
                return len(await entries_of(broker, REPLY)) > 1

            await eventually(is_over, "the lanes that it may read are served")
        assert desk.lanes.near is None, "and the registry does not say that it reads its own"
    finally:
        await own.aclose()
        await admin.execute_command("ACL", "DELUSER", user)
