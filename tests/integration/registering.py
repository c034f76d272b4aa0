"""What the tests of joining and cutting off are told with: tokens, registrations, nodes' entries."""

import hashlib
import re
import time
from typing import Any
from uuid import uuid4

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from common.records.credentials import digest_of
from common.records.grid import NodeRecord
from common.types import ModelId, NodeId, NodeState
from tests.integration.test_provider_api import DIRECT_KEY
from tests.support.call import Answer, Call, get, post
from tests.support.grid import Grid
from tests.support.processes import PROJECT, until

ADMIN_TOKEN = "the-operator-s-own-word"
FIXED_TOKEN = "a-token-of-the-settings"
ENV = {
    "GHUB_HEARTBEAT_S": "0.5",
    "GHUB_HUB_ADMIN_TOKEN": ADMIN_TOKEN,
    "GHUB_HUB_PROVIDER_TOKENS": FIXED_TOKEN,
    "GHUB_HUB_DIRECT_KEYS": DIRECT_KEY,
    "GHUB_HUB_AUTH": "off",
}
REGISTER = "/api/provider/register"
CUT_WITHIN_S = 2.0
MODEL = "joined:1b"


def admin(hub: str, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
    """Ask as the operator."""
    return Call(hub, body, path=path, method=method, headers={"authorization": f"Bearer {ADMIN_TOKEN}"}).finish()


def new_token(hub: str) -> str:
    answer = admin(hub, "POST", "/api/tokens", {"name": f"t-{uuid4().hex}"})
    assert answer.status == 201, answer.text
    return str(answer.json["token"])


def revoke(hub: str, secret: str) -> Answer:
    """Revoke a token by its id, as listings show it."""
    return admin(hub, "DELETE", f"/api/tokens/{digest_of(secret)[:16]}")


def send(hub: str, secret: str | None, path: str, body: dict[str, Any]) -> Answer:
    return post(hub, body, path=path, headers={} if secret is None else {"authorization": f"Bearer {secret}"})


def wish(name: str, *models: str, instance: str = "i1") -> dict[str, Any]:
    return {"name": name, "models": models or (MODEL,), "slots": 2, "engine": {"kind": "ollama"}, "instance": instance}


def register(hub: str, secret: str | None, name: str, *models: str, instance: str = "i1") -> Answer:
    return send(hub, secret, REGISTER, wish(name, *models, instance=instance))


def as_member(grid: Grid, given: dict[str, Any]) -> redis.Redis:
    """A connection of a node with what it was given."""
    assert given["redis_url"] == grid.broker.url
    once = Retry(NoBackoff(), 0)
    return redis.Redis(
        port=grid.broker.port,
        username=given["username"],
        password=given["password"],
        decode_responses=True,
        protocol=2,
        retry=once,
        single_connection_client=True,
    )


def write_node(client: redis.Redis, name: str, *models: str, key: str = "", instance: str = "i1") -> None:
    """Write a node's entry as a provider does that may not write the index."""
    seconds, _ = client.time()
    record = NodeRecord(
        node=NodeId(name),
        instance=instance,
        version="1",
        hostname="elsewhere",
        state=NodeState.IDLE,
        reasons=(),
        models=tuple(ModelId(model) for model in models or (MODEL,)),
        loaded=(),
        slots=1,
        requests=(),
        engine={},
        started_at=seconds * 1000,
        heartbeat_at=seconds * 1000,
    )
    client.hset(key or f"ghub:node:{name}", mapping=record.to_hash())
    client.pexpire(key or f"ghub:node:{name}", 60_000)


def is_cut(client: redis.Redis) -> bool:
    """Whether the broker has closed this very connection."""
    connection = client.connection
    assert connection is not None
    try:
        connection.send_command("PING")
        return connection.read_response() not in ("PONG", True)
    except redis.ConnectionError:
        return True


def nodes_at(hub: str) -> dict[str, Any]:
    return {node["node"]: node for node in get(hub, "/api/registry").json["nodes"]}


def joined(grid: Grid, hub: str, token: str, engine_url: str, name: str) -> str:
    """Start a provider that knows only the hub and its token; its name."""
    env = {"GHUB_REDIS_URL": "", "GHUB_SIGNING_KEY": "", "GHUB_HEARTBEAT_S": "0.5"}
    return grid.provider(engine_url, name, GHUB_PROVIDER_HUB_URL=hub, GHUB_PROVIDER_TOKEN=token, **env)


def digest_of_claim() -> str:
    """What EVALSHA calls the script that claims."""
    return hashlib.sha1((PROJECT / "common/lua/claim_jobs.lua").read_bytes(), usedforsecurity=False).hexdigest()


def rules_in(text: str) -> str:
    """The `ACL SETUSER …` line in an answer."""
    found = re.search(r"ACL SETUSER [^\"\n]+", text.replace("\\\\", "\\"))
    assert found is not None, text
    return found[0]


def until_later(seconds: float) -> None:
    """Let a time pass in which something must not happen."""
    over_at = time.monotonic() + seconds
    until(lambda: time.monotonic() >= over_at, seconds + 5, "time passes")
