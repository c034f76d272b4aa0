"""`ghub up` with keys, as somebody uses it who lets others in: what they get, and what nobody gets without a secret."""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import redis
from redis.exceptions import NoPermissionError

from tests.doubles.process import EngineProcess
from tests.support.brokers import server_binary
from tests.support.ports import free_port
from tests.support.processes import PROJECT, Process, python, until
from tests.support.tools import tool
from tests.support.up import Up

HOST = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
"""Not the address that the stack's parts use among themselves, where a machine has another loopback address."""
KEPT = "ghub:key:of-an-earlier-time"


class Stack:
    """A running stack with its data folder."""

    def __init__(self, up: Up) -> None:
        self.up = up
        self.url = f"http://{HOST}:{up.port}"

    def secret(self, name: str) -> str:
        return (self.up.data_dir / name).read_text().strip()

    @property
    def broker_port(self) -> int:
        (address,) = [line.split()[1] for line in self.up.lines if line.startswith("broker ") and " pid " in line]
        return int(address.strip(",").rpartition(":")[2])

    def make(self, kind: str, **body: str) -> dict[str, str]:
        """Create a key or a token as the operator."""
        headers = {"authorization": f"Bearer {self.secret('admin-token')}"}
        answer = httpx2.post(f"{self.url}/api/{kind}", json=body, headers=headers, trust_env=False)
        assert answer.is_success, answer.text
        made: dict[str, str] = answer.json()
        return made


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """On a data folder whose broker was run without any users before."""
    folder = tmp_path_factory.mktemp("stack")
    data_dir = folder / "data"
    _leave_an_old_file(data_dir / "broker")
    with EngineProcess() as engine:
        options = ("--host", HOST, "--engine-url", engine.url)
        up = Up(data_dir, *options, env={"GHUB_HUB_AUTH": "required", "GHUB_REDIS_URL": ""})
        up.until("ready ")
        up.until("  clients ")  # the last of what it says
        yield Stack(up)
        up.process.terminate()
        assert up.ends() == (0, "")
        up.close()


def _leave_an_old_file(folder: Path) -> None:
    folder.mkdir(parents=True)
    port = free_port()
    argv = [server_binary("valkey"), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    old = Process("old broker", [*argv, "--appendonly", "yes", "--save", ""], folder.parent.parent / "old.log")
    with redis.Redis(port=port) as client:

        def answers() -> bool:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

        until(answers, 10, old.tail)
        client.set(KEPT, "still here")
    old.stop()


def broker(stack: Stack, **user: str) -> "redis.Redis":
    return redis.Redis(port=stack.broker_port, decode_responses=True, protocol=2, **user)  # type: ignore[arg-type]  # str


def test_the_broker_lets_nobody_in_without_its_password(stack: Stack) -> None:
    for user in ({}, {"username": "hub", "password": "wrong"}, {"password": stack.secret("broker-password")}):
        with broker(stack, **user) as client, pytest.raises(redis.AuthenticationError):
            client.ping()


def test_without_keys_anyone_may_look_at_the_registry_and_at_no_text(tmp_path: Path) -> None:
    with EngineProcess() as engine:
        up = Up(tmp_path / "data", "--engine-url", engine.url, env={"GHUB_REDIS_URL": "", "GHUB_HUB_AUTH": ""})
        try:
            up.until("ready ")
            body = {"model": "tiny:1b", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
            answer = httpx2.post(f"{up.base_url}/v1/chat/completions", json=body, trust_env=False, timeout=20)
            with broker(Stack(up)) as client:
                (node,) = list(client.scan_iter("ghub:node:*"))
                assert client.hget(node, "models") == '["tiny:1b"]'
                assert client.hget(f"ghub:request:{answer.headers['x-request-id']}", "status")
                (reply,) = list(client.scan_iter("ghub:reply:*"))
                assert client.ttl(reply) > 0
                lane = "ghub:{jobs}:interactive:tiny:1b"
                assert client.xlen(lane) == 0
                forbidden: tuple[tuple[str, ...], ...] = (
                    ("XRANGE", reply, "-", "+"),
                    ("XREAD", "STREAMS", lane, "0"),
                    ("XADD", lane, "*", "v", "1"),
                    ("HSET", node, "state", "idle"),
                    ("HGETALL", "ghub:member:x"),
                    ("SMEMBERS", "ghub:keys"),
                    ("DEL", node),
                    ("FLUSHALL",),
                    ("EVAL", "return 1", "0"),
                )
                for command in forbidden:
                    with pytest.raises(NoPermissionError):
                        client.execute_command(*command)
            assert "broker_open_to_all" not in (up.data_dir / "logs" / "hub.log").read_text()
        finally:
            up.close()


def test_the_hubs_own_user_keeps_to_the_grid(stack: Stack) -> None:
    with broker(stack, username="hub", password=stack.secret("broker-password")) as client:
        assert client.get(KEPT) == "still here"  # of before there were users
        for command in (("SET", "other", "1"), ("FLUSHALL",), ("CONFIG", "SET", "dir", "/"), ("EVAL", "return 1", "0")):
            with pytest.raises(NoPermissionError):
                client.execute_command(*command)


def test_what_it_prints_for_redis_cli_works_and_shows_no_password(stack: Stack) -> None:
    (line,) = [line for line in stack.up.lines if "redis-cli" in line]
    assert stack.secret("broker-password") not in line
    cli = tool("redis-cli", "apt-get install redis-tools")
    said = subprocess.run(
        ["/bin/sh", "-c", line.replace("redis-cli", shlex.quote(cli))],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (said.returncode, said.stderr) == (0, "")
    assert KEPT in said.stdout


def test_clients_need_a_key_and_it_says_how_to_get_one(stack: Stack) -> None:
    body = {"model": "tiny:1b", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}

    def ask(**headers: str) -> httpx2.Response:
        url = f"{stack.url}/v1/chat/completions"
        return httpx2.post(url, json=body, headers=headers, trust_env=False, timeout=20)

    assert ask().status_code == 401
    said = "\n".join(stack.up.lines)
    assert "ghub key create --name me" in said
    assert f"GHUB_HUB_URL={stack.url}" in said or HOST == "127.0.0.1"
    key = stack.make("keys", name="me")["key"]
    assert ask(authorization=f"Bearer {key}").status_code == 200


def test_the_next_machine_joins_with_a_token_and_nothing_else(stack: Stack, tmp_path: Path) -> None:
    token = stack.make("tokens", name="next")["token"]
    with EngineProcess(models=("second:1b",)) as engine:
        env = {
            "GHUB_PROVIDER_NAME": "next",
            "GHUB_PROVIDER_CONFIG": "",
            "GHUB_PROVIDER_ENGINE__URL": engine.url,
            "GHUB_PROVIDER_SERVER__PORT": str(free_port()),
            "GHUB_PROVIDER_HUB_URL": stack.url,
            "GHUB_PROVIDER_TOKEN": token,
        }
        provider = Process("provider", python("-m", "provider"), tmp_path / "provider.log", env)
        try:
            until(lambda: "second:1b" in _models(stack), 20, provider.tail)
            with broker(stack, username="hub", password=stack.secret("broker-password")) as client:
                users = client.acl_users()
            assert sorted(users)[:1] == ["default"]
            assert len(users) == 4  # nobody, the hubs, the stack's own provider, and the new one
        finally:
            provider.stop()


def _models(stack: Stack) -> list[str]:
    headers = {"authorization": f"Bearer {stack.secret('admin-token')}"}
    answer = httpx2.get(f"{stack.url}/api/registry", headers=headers, trust_env=False)
    return [model["id"] for model in answer.json()["models"] if model["nodes"]]


def test_no_secret_stands_in_what_others_can_see(stack: Stack) -> None:
    names = ("signing-key", "direct-key", "provider-token", "admin-token", "broker-password")
    secrets = [stack.secret(name).rpartition(":")[2] for name in names]
    shown = [*stack.up.lines, (stack.up.data_dir / "broker" / "valkey.conf").read_text()]
    shown += [path.read_text(errors="replace") for path in (stack.up.data_dir / "logs").iterdir()]
    shown += [json.dumps(process.cmdline()) for process in stack.up.processes()]
    assert len(set(secrets)) == len(names)
    assert not [name for name, secret in zip(names, secrets, strict=True) if secret in "\n".join(shown)]
    assert all((stack.up.data_dir / name).stat().st_mode & 0o777 == 0o600 for name in names)


def test_the_operators_commands_find_its_token_by_themselves(stack: Stack) -> None:
    env = {"GHUB_DATA_DIR": str(stack.up.data_dir), "GHUB_HUB_URL": stack.url, "PYTHONPATH": str(PROJECT)}
    argv = python("-m", "ghub", "key", "list", "--json")
    said = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False, env=env, cwd=PROJECT)
    assert said.returncode == 0, said.stderr
    json.loads(said.stdout)
