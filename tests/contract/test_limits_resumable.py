"""What a hub that died held of a key's limits comes free, but a request that can be resumed goes on elsewhere."""

from common.broker.broker import Broker
from common.records.limits import Limits, LimitSettings, Quota, Standing
from common.types import HubId, RequestId
from tests.contract.story import KEYS, all_keys, raw

DEAD = HubId("hub-dead")
SETTINGS = LimitSettings(lane_share=16, max_waiting=10, lease_ms=3000, ttl_ms=60_000)
NAMES = {"plain": {"hub": DEAD}, "resumable": {"hub": DEAD, "resumable": "1"}, "forgotten": {}}


async def test_the_reply_of_one_that_can_be_resumed_stays_for_who_looks_after_it_now(broker: Broker) -> None:
    for name, facts in NAMES.items():
        await raw(broker).xadd(KEYS.reply(DEAD, RequestId(name)), {"open": "1"})
        if facts:
            await raw(broker).hset(KEYS.request(RequestId(name)), mapping=facts)
    orphans = [(RequestId(name), DEAD) for name in NAMES]
    told = Standing(granted=[], orphans=orphans, places={}, verdict=None, wait_ms=0, quota=Quota(None, None))
    await Limits(broker, HubId("hub-a"), SETTINGS).pass_on(told)
    left = {key for key in await all_keys(broker) if key.startswith("ghub:reply:")}
    assert left == {KEYS.reply(DEAD, RequestId("resumable"))}
