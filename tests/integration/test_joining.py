"""Providers that know a hub and a token and nothing else: they join, are served with all the rest, and stay."""

from pathlib import Path
from typing import Any

import pytest
import redis

from tests.doubles.process import EngineProcess
from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import Call, get, post
from tests.support.grid import SIGNING_KEY, Grid, chat
from tests.support.ports import free_port
from tests.support.processes import Process, python, until

TOKEN = "0123456789-token-of-the-hub"
ADMIN = "0123456789-token-of-the-operator"
AS_ADMIN = {"authorization": f"Bearer {ADMIN}"}
QUICK = {"GHUB_HEARTBEAT_S": "0.3", "GHUB_HUB_FIRST_COMMENT_S": "0.5", "GHUB_HUB_QUEUE_TIMEOUT_S": "20"}
NEW_KEY = "new:fedcba9876543210"
FOREVER = {"prefill_ms": 600_000}
LOOKS = {"GHUB_PROVIDER_ENGINE__PROBE_INTERVAL_S": "0.2"}
NOTHING = {"GHUB_REDIS_URL": "", "GHUB_SIGNING_KEY": ""}
"""What a provider is told of broker and keys."""


@pytest.fixture
def grid(mortal_grid: Grid) -> Grid:
    return mortal_grid


@pytest.fixture
def hub(grid: Grid) -> str:
    return start_hub(grid)


@pytest.fixture
def engine(grid: Grid) -> EngineProcess:
    return grid.engine()


def start_hub(grid: Grid, *, wait: bool = True, **env: str) -> str:
    return grid.hub(wait=wait, **{"GHUB_HUB_PROVIDER_TOKENS": TOKEN, **QUICK, **env})


def start_hub_at(grid: Grid, url: str, **env: str) -> None:
    """Start a hub at the address of a former one."""
    start_hub(grid, wait=False, GHUB_HUB_PORT=url.rpartition(":")[2], **env)
    until(lambda: grid.status(url, "/health/ready") == 200, 15, f"a hub is ready at {url}")


def join(grid: Grid, hub: str, engine: EngineProcess, name: str = "joined", *, wait: bool = True, **env: str) -> str:
    """Start a provider that is told of a hub and an engine, and of no broker."""
    told = {"GHUB_PROVIDER_HUB_URL": hub, "GHUB_PROVIDER_TOKEN": TOKEN, **NOTHING, **LOOKS}
    return grid.provider(engine.url, name, wait=wait, **{**told, **env})


def user_of(node: str) -> str:
    return f"ghub:provider:{node}"


def users_at(grid: Grid) -> set[str]:
    with grid.redis() as client:
        return {str(one["user"]) for one in client.client_list() if one["name"].startswith("ghub-provider")}


def call_admin(hub: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    with Call(hub, body, path=path, headers=AS_ADMIN) as call:
        answer = call.finish()
    assert answer.status in (200, 201), answer.text
    found: dict[str, Any] = answer.json
    return found


def answers(hub: str, tokens: int = 5, **fields: Any) -> bool:
    return post(hub, chat(tokens=tokens, **fields)).said == numbered(0, tokens)


def refused_commands(client: redis.Redis) -> list[str]:
    """What the broker has refused to its users since it started or was asked to forget it."""
    entries: Any = client.execute_command("ACL", "LOG")
    return [f"{one['username']}: {one['reason']} {one['object']}" for one in map(_as_dict, entries)]


def _as_dict(entry: Any) -> dict[str, Any]:
    return entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True))


def ended(process: Process) -> int:
    return process.wait(15)


class TestJoin:
    def test_one_line_is_all_it_takes(self, grid: Grid, hub: str, engine: EngineProcess, tmp_path: Path) -> None:
        line = ["-m", "ghub", "provider", "--hub-url", hub, "--token", TOKEN]
        line += ["--engine-url", engine.url, "--name", "one-line", "--port", "0"]
        env = {"GHUB_PROVIDER_CONFIG": "", "HOME": str(tmp_path)}
        process = Process("provider one-line", python(*line), tmp_path / "one-line.log", env)
        grid.providers["one-line"] = process
        grid.wait_for_node("one-line")
        grid.wait_for_model(hub, "tiny:1b")
        assert answers(hub)
        assert answers(hub, stream=True)
        assert users_at(grid) == {user_of("one-line")}
        assert TOKEN not in process.tail(100_000)
        assert "0123456789abcdef" not in process.tail(100_000), "the signing key is in no log"
        assert process.stop() == 0
        with grid.redis() as client:
            assert grid.node(client, "one-line") == {}, "it took itself out of the registry"

    def test_who_is_told_of_a_broker_does_not_register(self, grid: Grid, hub: str, engine: EngineProcess) -> None:
        join(grid, hub, engine, GHUB_REDIS_URL=grid.broker.url, GHUB_SIGNING_KEY=SIGNING_KEY)
        grid.wait_for_model(hub, "tiny:1b")
        assert answers(hub)
        assert users_at(grid) == {"default"}

    def test_a_grid_without_acl_is_joined_too(self, grid: Grid, engine: EngineProcess) -> None:
        hub = start_hub(grid, GHUB_HUB_ACL="off", GHUB_HUB_PROVIDER_REDIS_URL=grid.broker.url)
        join(grid, hub, engine)
        grid.wait_for_model(hub, "tiny:1b")
        assert answers(hub)
        assert users_at(grid) == {"default"}

    def test_a_grid_of_another_prefix_and_database_is_joined_as_it_is(self, grid: Grid, engine: EngineProcess) -> None:
        url = grid.broker.url.removesuffix("/0") + "/3"
        hub = start_hub(grid, GHUB_REDIS_URL=url, GHUB_PREFIX="lab:")
        join(grid, hub, engine, wait=False)
        grid.wait_for_model(hub, "tiny:1b")
        assert answers(hub)

    def test_a_hub_that_is_away_is_waited_for(self, grid: Grid, engine: EngineProcess) -> None:
        hub = f"http://127.0.0.1:{free_port()}"
        node = join(grid, hub, engine, wait=False)
        log = grid.providers[node].tail
        until(lambda: log().count("hub_unavailable") >= 2, 15, log)
        assert get(grid.provider_urls[node], "/health").json["in_grid"] is False, "it can be asked meanwhile"
        start_hub_at(grid, hub)
        grid.wait_for_node(node)
        grid.wait_for_model(hub, "tiny:1b")
        assert answers(hub)

    def test_a_provider_that_waits_for_its_hub_stops_at_once(self, grid: Grid, engine: EngineProcess) -> None:
        node = join(grid, f"http://127.0.0.1:{free_port()}", engine, wait=False)
        log = grid.providers[node].tail
        until(lambda: "hub_unavailable" in log(), 15, log)
        assert grid.providers[node].stop(3) == 0

    def test_a_wrong_token_ends_it_with_one_line(self, grid: Grid, hub: str, engine: EngineProcess) -> None:
        node = join(grid, hub, engine, wait=False, GHUB_PROVIDER_TOKEN="another-secret-entirely")
        assert ended(grid.providers[node]) == 1
        *_, last = grid.providers[node].tail().splitlines()
        assert last.startswith(f"ghub provider: {hub} does not let 'joined' in: ")
        assert "invalid_token" in last
        assert "another-secret" not in grid.providers[node].tail()

    def test_a_name_that_another_provider_holds_is_not_taken(self, grid: Grid, hub: str, engine: EngineProcess) -> None:
        node = join(grid, hub, engine)
        first = grid.providers[node]
        join(grid, hub, engine, node, wait=False)
        assert ended(grid.providers[node]) == 1
        assert "choose a --name" in grid.providers[node].tail()
        assert first.is_running
        grid.wait_for_model(hub, "tiny:1b")
        assert answers(hub)


class TestLife:
    def test_the_broker_never_refuses_a_member_anything(self, grid: Grid, hub: str, engine: EngineProcess) -> None:
        node = join(grid, hub, engine)
        grid.wait_for_model(hub, "tiny:1b")
        assert answers(hub)
        with Call(hub, chat(tokens=1000, stream=True, double={"delay_ms": 20})) as dropped:
            dropped.wait_for("t3 ")
        until(lambda: engine.state()["open"] == 0, 10, "its job was called off")
        with grid.redis() as client:
            forged: dict[Any, Any] = {"v": "1", "id": "forged"}
            client.xadd("ghub:{jobs}:interactive:tiny:1b", forged)
            until(lambda: client.xlen("ghub:dead") == 1, 10, "a job that is none is buried")
        engine.configure(**FOREVER)
        with Call(hub, chat(tokens=5)) as call:
            until(lambda: engine.state()["open"] == 1, 10, "a job is at the engine")
            grid.providers[node].kill()
            engine.configure()
            join(grid, hub, engine, node)
            assert call.finish().said == numbered(0, 5)
        assert grid.providers[node].stop() == 0
        with grid.redis() as client:
            assert refused_commands(client) == []
            assert leftovers.is_at_rest(client, "tiny:1b")

    def test_models_that_come_are_served_within_seconds(self, grid: Grid, hub: str, engine: EngineProcess) -> None:
        node = join(grid, hub, engine)
        grid.wait_for_model(hub, "tiny:1b")
        port = int(engine.url.rpartition(":")[2])
        engine.kill()
        grid.engine("other:2b", "tiny:1b", port=port)
        grid.wait_for_model(hub, "other:2b", within_s=5)
        assert post(hub, chat(tokens=5, model="other:2b")).said == numbered(0, 5)
        assert answers(hub)
        assert grid.providers[node].is_running

    def test_a_broker_that_restarts_without_its_users_is_joined_anew(
        self, grid: Grid, hub: str, engine: EngineProcess
    ) -> None:
        join(grid, hub, engine)
        grid.wait_for_model(hub, "tiny:1b")
        assert answers(hub)
        grid.broker.kill()
        grid.broker.start()
        grid.wait_for_node("joined", within_s=10)
        grid.wait_for_hub(hub)
        grid.wait_for_model(hub, "tiny:1b")
        assert answers(hub)
        assert users_at(grid) == {user_of("joined")}

    def test_a_flush_is_healed(self, grid: Grid, hub: str, engine: EngineProcess) -> None:
        join(grid, hub, engine)
        grid.wait_for_model(hub, "tiny:1b")
        with grid.redis() as client:
            client.flushall()
            client.script_flush()
        grid.wait_for_node("joined", within_s=10)
        grid.wait_for_model(hub, "tiny:1b")
        assert answers(hub)

    def test_a_user_deleted_by_hand_is_made_anew(self, grid: Grid, hub: str, engine: EngineProcess) -> None:
        join(grid, hub, engine)
        grid.wait_for_model(hub, "tiny:1b")
        with grid.redis() as client:
            assert client.execute_command("ACL", "DELUSER", user_of("joined")) == 1
        assert answers(hub)

    def test_a_new_signing_key_costs_no_job(self, grid: Grid, hub: str, engine: EngineProcess) -> None:
        join(grid, hub, engine)
        grid.wait_for_model(hub, "tiny:1b")
        assert answers(hub)
        assert grid.hubs[hub].stop() == 0
        start_hub_at(grid, hub, GHUB_SIGNING_KEY=f"{NEW_KEY},{SIGNING_KEY}")
        grid.wait_for_model(hub, "tiny:1b")
        assert answers(hub)
        with grid.redis() as client:
            assert client.xlen("ghub:dead") == 0

    def test_a_hub_that_names_another_grid_ends_it_in_order(self, grid: Grid, hub: str, engine: EngineProcess) -> None:
        node = join(grid, hub, engine)
        grid.wait_for_model(hub, "tiny:1b")
        assert grid.hubs[hub].stop() == 0
        start_hub_at(grid, hub, GHUB_PREFIX="lab:")
        with grid.redis() as client:  # so that it asks at once
            client.execute_command("ACL", "DELUSER", user_of(node))
        assert ended(grid.providers[node]) == 1
        assert "to be started anew" in grid.providers[node].tail()


class TestUsersMadeByHand:
    """Where hubs make no broker users, they tell the broker's operator which ones are wanted."""

    def make_user(self, grid: Grid, hub: str, node: str) -> None:
        with Call(hub, path=f"/api/nodes/{node}/acl", method="GET", headers=AS_ADMIN) as asked:
            line = str(asked.finish().json["acl"])
        with grid.redis() as client:
            client.execute_command(*line.split())

    def test_a_node_waits_for_its_user_and_a_model_without_rights_holds_up_no_other(
        self, grid: Grid, engine: EngineProcess
    ) -> None:
        hub = start_hub(grid, GHUB_HUB_ACL="print", GHUB_HUB_ADMIN_TOKEN=ADMIN)
        node = join(grid, hub, engine, wait=False)
        log = grid.providers[node].tail
        until(lambda: "not allowed" in log(), 15, log)
        self.make_user(grid, hub, node)
        grid.wait_for_node(node)
        grid.wait_for_model(hub, "tiny:1b")
        assert answers(hub)
        engine.kill()
        grid.engine("other:2b", "tiny:1b", port=int(engine.url.rpartition(":")[2]))
        until(lambda: "models_denied" in log(20_000), 15, log)
        assert answers(hub), "the model of before is served on"


class TestRevocation:
    def test_a_token_that_is_taken_out_of_the_settings_pauses_its_provider_until_it_is_back(
        self, grid: Grid, engine: EngineProcess
    ) -> None:
        hub = start_hub(grid, GHUB_HUB_REGISTRATION_RENEW_S="1")
        node = join(grid, hub, engine)
        grid.wait_for_model(hub, "tiny:1b")
        assert answers(hub)
        assert grid.hubs[hub].stop() == 0
        start_hub_at(grid, hub, GHUB_HUB_PROVIDER_TOKENS="another-token-entirely")
        health = grid.provider_urls[node]
        until(lambda: get(health, "/health").json["reasons"] == ["revoked"], 15, grid.providers[node].tail)
        assert grid.providers[node].tail(20_000).count("token_revoked") == 1
        assert grid.providers[node].stop() == 0

    def test_a_revoked_provider_gives_its_jobs_up_at_once(self, grid: Grid, engine: EngineProcess) -> None:
        hub = start_hub(grid, GHUB_HUB_ADMIN_TOKEN=ADMIN, GHUB_HUB_REGISTRATION_RENEW_S="1")
        token = call_admin(hub, "/api/tokens", {"name": "desk"})
        node = join(grid, hub, engine, GHUB_PROVIDER_TOKEN=token["token"], GHUB_PROVIDER_BROKER_GRACE_S="1")
        grid.wait_for_model(hub, "tiny:1b")
        engine.configure(**FOREVER)
        with Call(hub, chat(tokens=5, stream=True)) as call:
            until(lambda: engine.state()["open"] == 1, 10, "a job is at the engine")
            with Call(hub, path=f"/api/tokens/{token['id']}", method="DELETE", headers=AS_ADMIN) as revoke:
                assert revoke.finish().status == 200
            until(lambda: engine.state()["open"] == 0, 10, "its job was given up")
            other = grid.engine()
            join(grid, hub, other, "other")
            assert call.finish().said == numbered(0, 5)
        assert users_at(grid) == {user_of("other")}
        assert get(grid.provider_urls[node], "/health").json["in_grid"] is False
        assert grid.providers[node].tail(20_000).count("token_revoked") == 1
        assert grid.providers[node].stop(within_s=15) == 0  # it tries for 10 s to take the job off its lane
