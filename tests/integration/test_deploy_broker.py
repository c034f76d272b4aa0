"""The broker as deploy/valkey sets it up: what hubs and providers need works, and nothing else does."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from common.broker.scripts import Script
from tests.support.brokers import BrokerProcess, server_binary
from tests.support.call import Call, post
from tests.support.grid import Chain, Grid, chat
from tests.support.processes import PROJECT, Process, until
from tests.support.tools import without

PASSWORDS = {"BROKER_HUB_PASSWORD": "hub-secret", "BROKER_PROVIDER_PASSWORD": "provider-secret"}
LOOKER = "user looker on nopass allkeys +@all"
"""Who the tests look with, and none of the file's."""


class ComposeBroker(BrokerProcess):
    """A Valkey that is started the way compose.yaml does, on a free loopback port."""

    def start(self) -> None:
        folder = self._folder / "conf"
        shutil.copytree(PROJECT / "deploy/valkey", folder, dirs_exist_ok=True)
        with (folder / "users.acl").open("a") as rules:
            rules.write(f"{LOOKER}\n")
        env = {**PASSWORDS, "GHUB_ACL_FILE": str(self._folder / "made.acl"), "VALKEY_SERVER": server_binary("valkey")}
        argv = [str(folder / "start.sh"), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        self.process = Process("valkey-server", argv, self._folder / "valkey.log", env)
        with self.client() as client:
            until(lambda: _is_there(client), 10, self.process.tail)

    def client(self) -> redis.Redis:
        return self.as_user("looker", "any")

    def as_user(self, user: str, password: str) -> redis.Redis:
        once = Retry(NoBackoff(), 0)  # a wrong password counts as a lost connection there, and would be tried ten times
        return redis.Redis(
            port=self.port, username=user, password=password, decode_responses=True, protocol=2, retry=once
        )

    def url_of(self, user: str) -> str:
        return f"redis://{user}:{user}-secret@127.0.0.1:{self.port}/0"


def _is_there(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except (redis.ConnectionError, redis.AuthenticationError):
        return False


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeBroker]:
    for name in ("sha256sum", "sed"):
        if shutil.which(name) is None:
            without(f"no {name} on PATH")
    started = ComposeBroker("valkey", tmp_path_factory.mktemp("broker"))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def grid(broker: ComposeBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    made = Grid(broker, tmp_path_factory.mktemp("grid"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def chain(broker: ComposeBroker, grid: Grid) -> Chain:
    """Hub and provider, each with its own user."""
    engine = grid.engine()
    hub = grid.hub(wait=False, GHUB_REDIS_URL=broker.url_of("hub"))
    node = grid.provider(engine.url, wait=False, GHUB_REDIS_URL=broker.url_of("provider"))
    grid.wait_for_node(node)
    grid.wait_for_hub(hub)
    grid.wait_for_model(hub, "tiny:1b")
    return Chain(hub, node, engine)


def refusals(broker: ComposeBroker) -> list[str]:
    """What the broker refused since it was last asked."""
    with broker.client() as client:
        found = client.execute_command("ACL", "LOG")
        client.execute_command("ACL", "LOG", "RESET")
    return [str(entry) for entry in found]


# what must work


def test_a_whole_life_of_hub_and_provider_is_allowed(broker: ComposeBroker, grid: Grid, chain: Chain) -> None:
    refusals(broker)
    assert post(chain.hub, chat(tokens=4)).said
    assert post(chain.hub, chat(tokens=8, stream=True)).is_ended_once
    with grid.redis() as client:
        with Call(chain.hub, chat(tokens=2000, stream=True, double={"delay_ms": 20})) as call:
            call.wait_for("data:")
            call.drop()
        until(lambda: grid.node(client, chain.node)["requests"] == "[]", 10, "the job is cancelled")
    assert refusals(broker) == []


def test_a_job_that_is_given_back_finds_its_way(broker: ComposeBroker, grid: Grid, chain: Chain) -> None:
    engine = grid.engine("moving:1b")
    env = {"GHUB_REDIS_URL": broker.url_of("provider"), "GHUB_PROVIDER_DRAIN_TIMEOUT_S": "0"}
    giver = grid.provider(engine.url, "giver", **env)
    grid.wait_for_model(chain.hub, "moving:1b")
    refusals(broker)
    call = Call(chain.hub, chat(model="moving:1b", stream=True, double={"first_byte_ms": 2000}))
    until(lambda: engine.state()["running"] == 1, 10, "the engine works on it")
    assert grid.providers[giver].stop() == 0
    with grid.redis() as client:
        assert grid.node(client, giver) == {}
    grid.provider(engine.url, "heir", **env)
    assert call.finish().is_ended_once
    assert refusals(broker) == []


def test_a_provider_that_joins_works_with_a_user_of_its_own(broker: ComposeBroker, grid: Grid) -> None:
    token = "a-token-of-the-settings"
    hub = grid.hub(GHUB_REDIS_URL=broker.url_of("hub"), GHUB_HUB_PROVIDER_TOKENS=token)
    engine = grid.engine("joined:1b")
    own = {"GHUB_PROVIDER_HUB_URL": hub, "GHUB_PROVIDER_TOKEN": token}
    node = grid.provider(engine.url, "joiner", GHUB_REDIS_URL="", GHUB_SIGNING_KEY="", **own)
    grid.wait_for_model(hub, "joined:1b")
    refusals(broker)
    assert post(hub, chat(model="joined:1b", tokens=4)).said
    assert grid.providers[node].stop() == 0
    assert refusals(broker) == []
    assert "broker_open_to_all" not in grid.hubs[hub].log.read_text()


def test_the_passwords_stand_nowhere_in_the_clear(broker: ComposeBroker) -> None:
    made = Path(broker._folder / "made.acl")
    assert made.stat().st_mode & 0o077 == 0
    assert not any(secret in made.read_text() for secret in PASSWORDS.values())
    environment = Path(f"/proc/{broker.process.pid}/environ")
    if environment.exists():
        names = {line.partition(b"=")[0].decode() for line in environment.read_bytes().split(b"\0")}
        assert not names & set(PASSWORDS)
    assert os.environ.keys().isdisjoint(PASSWORDS)


# what must not


@pytest.mark.parametrize("missing", PASSWORDS)
def test_without_its_passwords_it_does_not_start(missing: str, tmp_path: Path) -> None:
    env = {**PASSWORDS, missing: "", "GHUB_ACL_FILE": str(tmp_path / "made.acl"), "VALKEY_SERVER": "true"}
    started = Process("start.sh", [str(PROJECT / "deploy/valkey/start.sh")], tmp_path / "log", env)
    assert started.wait(10) != 0
    assert missing in started.tail()
    assert not (tmp_path / "made.acl").exists()


def test_without_a_password_only_ping_is_answered(broker: ComposeBroker) -> None:
    with redis.Redis(port=broker.port, protocol=2) as client:
        assert client.ping()
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.get("ghub:nodes")
    with broker.as_user("hub", "wrong") as client, pytest.raises(redis.AuthenticationError):
        client.ping()


MAY = {
    "hub": [
        "XADD ghub:{jobs}:interactive:m * v 1",
        "HGETALL ghub:node:n",
        "XREAD STREAMS ghub:reply:{h}:1 0",
        "DEL ghub:reply:{h}:1",
        "SET ghub:nonce:1 1 NX EX 60",
        "TIME",
        "ACL SETUSER ghub:provider:n reset",
        "ACL DELUSER ghub:provider:n",
        "ACL USERS",
    ],
    "provider": [
        "XREADGROUP GROUP providers n STREAMS ghub:{jobs}:interactive:m >",
        "EVALSHA 0 2 ghub:{jobs}:interactive:m ghub:{jobs}:waiting:interactive:m",
        "XACK ghub:{jobs}:interactive:m providers 1-0",
        "XADD ghub:reply:{h}:1 NOMKSTREAM 1-0 data x",
        "XADD ghub:doorbell:{h} NOMKSTREAM MAXLEN ~ 10 * ids 1",
        "XADD ghub:changes MAXLEN ~ 10 * node n",
        "HSET ghub:node:n state idle",
        "XREAD STREAMS ghub:control:n 0",
    ],
}
MAY_NOT = {
    "hub": [
        "FLUSHALL",
        "KEYS *",
        "CONFIG SET maxmemory 1",
        "ACL LIST",
        "SHUTDOWN",
        "GET other:key",
        "EVAL return 0",
        "DEBUG SLEEP 1",
        "CLIENT KILL ID 1",
    ],
    "provider": [
        "XADD ghub:{jobs}:interactive:m * v 1",
        "XREAD STREAMS ghub:reply:{h}:1 0",
        "DEL ghub:reply:{h}:1",
        "DEL ghub:{jobs}:interactive:m",
        "XREAD STREAMS ghub:doorbell:{h} 0",
        "HGETALL ghub:request:1",
        "XADD ghub:control:n * op drain",
        "HSET ghub:hub:h open_requests 0",
        "HGETALL ghub:key:abc",
        "SCAN 0",
        "KEYS *",
        "FLUSHALL",
        "CONFIG GET *",
        "EVAL return 0",
        "CLIENT LIST",
        "PUBLISH news x",
    ],
}


@pytest.mark.parametrize("user", MAY)
def test_the_rules_allow_what_is_needed_and_no_more(broker: ComposeBroker, user: str) -> None:
    with broker.client() as client:

        def is_allowed(command: str) -> bool:
            return client.execute_command("ACL", "DRYRUN", user, *command.split()) in ("OK", True)

        assert [command for command in MAY[user] if not is_allowed(command)] == []
        assert [command for command in MAY_NOT[user] if is_allowed(command)] == []


def test_a_provider_cannot_forge_a_job_by_a_script_that_a_hub_has_loaded(broker: ComposeBroker, chain: Chain) -> None:
    post(chain.hub, chat(tokens=1))
    text = Script("publish_job").text
    lane, index, lanes = (
        "ghub:{jobs}:interactive:tiny:1b",
        "ghub:{jobs}:waiting:interactive:tiny:1b",
        "ghub:{jobs}:lanes",
    )
    with broker.as_user("provider", "provider-secret") as client:
        digest = client.script_load(text)
        with pytest.raises(redis.ResponseError, match=r"NOPERM|permission"):
            client.evalsha(
                digest, 4, lane, index, lanes, lane, "providers", 10, "r1", 1000, "interactive:tiny:1b", 0, "v", "1"
            )
    refusals(broker)


def test_the_servers_settings_hold(broker: ComposeBroker) -> None:
    with broker.client() as client:
        told = client.config_get("maxmemory-policy", "appendonly", "save")
    assert told == {"maxmemory-policy": "noeviction", "appendonly": "yes", "save": ""}
