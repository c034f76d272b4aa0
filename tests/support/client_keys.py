"""Client API keys for tests, written straight into the broker as the operator's commands would."""

import time
from typing import Any

import redis

from common.keys import Keys
from common.records.credentials import KEY_HEAD, ClientKey, digest_of, new_secret
from common.types import KeyId
from tests.support.call import Call
from tests.support.grid import Chain, Grid
from tests.support.processes import until

KEYS = Keys()
AUTH = {"GHUB_HUB_AUTH": "required"}
"""What a hub is started with that asks for keys."""
BOOKS = ("turns", "unclaimed", "waiting", "leases", "requests")


class TestKey:
    """A client's key: what it shows, and what the broker holds of it."""

    __test__ = False

    def __init__(self, client: redis.Redis, **limits: Any) -> None:
        self.secret = new_secret(KEY_HEAD)
        key = ClientKey(digest_of(self.secret), "test", int(time.time() * 1000), **limits)
        self.id: KeyId = key.id
        self.headers = {"authorization": f"Bearer {self.secret}"}
        client.hset(KEYS.key(key.digest), mapping=key.to_hash())
        client.sadd(KEYS.keys, key.digest)
        client.incr(KEYS.credentials)

    def held(self, client: redis.Redis) -> dict[str, int]:
        """How many requests stand in each of its books; those that are empty are left out."""
        counts = {book: self._count(client, book) for book in BOOKS}
        return {book: count for book, count in counts.items() if count}

    def until_at_rest(self, client: redis.Redis, within_s: float) -> None:
        """Wait until nothing is held any more."""
        until(lambda: not self.held(client), within_s, lambda: self.held(client))

    def _count(self, client: redis.Redis, book: str) -> int:
        name = KEYS.limit(self.id, book)
        return int(client.hlen(name) if book == "requests" else client.zcard(name))


def keyed_chain(grid: Grid, *, slots: int = 8, provider_slots: int = 1, **env: str) -> Chain:
    """Start one of each, the hub asking for keys, and wait until they work together."""
    engine = grid.engine(slots=slots)
    hub = grid.hub(wait=False, **{**AUTH, **env})
    node = grid.provider(engine.url, wait=False, **{"GHUB_PROVIDER_SLOTS": str(provider_slots), **env})
    grid.wait_for_node(node)
    grid.wait_for_hub(hub)
    wait_for_model(grid, hub)
    return Chain(hub, node, engine)


def wait_for_model(grid: Grid, hub: str, model: str = "tiny:1b") -> None:
    """Wait until a hub that asks for keys lists a model."""
    with grid.redis() as client:
        key = TestKey(client)
    path = f"/v1/models/{model}"
    until(lambda: Call(hub, path=path, method="GET", headers=key.headers).finish().status == 200, 20, model)
