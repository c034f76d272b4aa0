"""`ghub provider --check` beside real parts: what is there is told, what is not is named, and no secret is shown."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from ghub.checking.findings import Finding
from ghub.checking.looking import look
from provider.config.reading import Configuration
from provider.settings import ProviderSettings
from tests.support.brokers import BrokerProcess
from tests.support.grid import SIGNING_KEY, Grid
from tests.support.nvml import StubGpu, StubNvml
from tests.support.ports import free_port
from tests.support.processes import PROJECT, python, run_to_end, until

TOKEN = "0123456789-token-of-the-hub"
LIMIT_S = 30.0
"""Far above what any of them takes, so that a hang is told from a slow machine."""


class Check:
    """One run of the command: its exit code, and what it found by name."""

    def __init__(self, file: Path, *options: str, env: dict[str, str] | None = None) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GHUB_")}
        began = time.monotonic()
        command = python("-m", "ghub", "provider", "--config", str(file), "--check", *options)
        done = run_to_end(command, {**clean, **(env or {})}, within_s=LIMIT_S)
        self.took_s = time.monotonic() - began
        self.code, self.out, self.errors = done.returncode, done.stdout, done.stderr

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found

    def found(self, name: str) -> dict[str, str]:
        """One finding of `--json`: its verdict, text and advice."""
        return next(one for one in self.json["checks"] if one["name"] == name)

    @property
    def verdicts(self) -> dict[str, str]:
        return {one["name"]: one["verdict"] for one in self.json["checks"]}


@pytest.fixture(scope="module")
def parts(module_grid: Grid) -> dict[str, Any]:
    """An engine, and a hub that knows the token."""
    engine = module_grid.engine("tiny:1b")
    with module_grid.redis() as client:
        client.config_set("save", "3600 1")  # a broker that keeps nothing is warned of
    hub = module_grid.hub(GHUB_HUB_PROVIDER_TOKENS=TOKEN)
    return {
        "engine": {"url": engine.url},
        "provider": {"name": "gpu-1", "url": hub, "api_key": TOKEN, "signing_key": SIGNING_KEY},
        "redis": {"url": module_grid.broker.url},
        "server": {"port": free_port()},
    }


def write(folder: Path, sections: dict[str, Any]) -> Path:
    """A file that nobody else can read."""
    file = folder / "provider.yaml"
    file.touch(mode=0o600)
    file.write_text(yaml.safe_dump(sections))
    return file


def changed(parts: dict[str, Any], **sections: dict[str, Any]) -> dict[str, Any]:
    return {name: {**parts.get(name, {}), **sections.get(name, {})} for name in {**parts, **sections}}


@contextmanager
def silent_listener() -> Iterator[str]:
    """Something that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_with_everything_there_all_is_well(tmp_path: Path, parts: dict[str, Any], gpu: StubNvml) -> None:
    gpu.set(StubGpu(utilization_pct=7))
    check = Check(write(tmp_path, parts), "--json", env=gpu.env)
    assert check.code == 0, check.out + check.errors
    assert set(check.verdicts.values()) == {"ok"}, check.out
    assert "tiny:1b" in check.found("engine")["text"]
    assert "Stub 4090: 7 %" in check.found("gpu")["text"]
    assert "takes the token" in check.found("hub")["text"]
    assert check.found("broker")["text"].startswith("Valkey ")


def test_the_configuration_is_shown_with_its_sources_and_without_secrets(
    tmp_path: Path, parts: dict[str, Any], gpu: StubNvml
) -> None:
    env = {**gpu.env, "GHUB_PROVIDER_GATE__THRESHOLD_PCT": "30", "GHUB_PROVIDER_SERVER__CONTROL_TOKEN": "c0ntr0l-token"}
    file = write(tmp_path, changed(parts, redis={"url": parts["redis"]["url"].replace("//", "//me:passw0rd@")}))
    check = Check(file, "--slots", "3", env=env)
    shown = check.out.partition("\nok ")[0].partition("\nfail ")[0].partition("\nwarn ")[0]
    sections = yaml.safe_load(shown)
    assert (sections["provider"]["name"], sections["provider"]["slots"]) == ("gpu-1", 3)
    assert sections["provider"]["api_key"] == sections["server"]["control_token"] == "********"
    assert "slots: 3  # --slots" in shown
    assert "threshold_pct: 30.0  # GHUB_PROVIDER_GATE__THRESHOLD_PCT" in shown
    assert "name: gpu-1  # line " in shown
    assert "hysteresis_pct: 5.0\n" in shown
    for secret in (TOKEN, SIGNING_KEY, "c0ntr0l-token", "passw0rd"):
        assert secret not in check.out + check.errors


def test_as_json_it_shows_the_same(tmp_path: Path, parts: dict[str, Any], gpu: StubNvml) -> None:
    check = Check(write(tmp_path, parts), "--json", env={**gpu.env, "GHUB_PROVIDER_SLOTS": "3"})
    assert check.json["file"] == str(tmp_path / "provider.yaml")
    assert check.json["settings"]["provider"]["slots"] == 3
    assert check.json["settings"]["provider"]["api_key"] == "********"
    assert check.json["sources"]["provider.slots"] == "GHUB_PROVIDER_SLOTS"
    assert "gate.idle_after_s" not in check.json["sources"]
    assert TOKEN not in check.out


def test_with_everything_down_each_failure_is_named_with_what_to_do(tmp_path: Path, gpu: StubNvml) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    file = write(
        tmp_path,
        {
            "engine": {"url": f"http://{nowhere}"},
            "provider": {"url": f"http://{nowhere}", "api_key": TOKEN},
            "redis": {"url": f"redis://{nowhere}"},
            "server": {"port": 0},
        },
    )
    check = Check(file, "--json", env=gpu.env)
    assert check.code == 1
    assert check.errors == ""
    for name in ("engine", "hub", "broker"):
        assert check.found(name)["verdict"] == "fail"
        assert nowhere.partition(":")[2] in check.found(name)["text"]
        assert check.found(name)["advice"]
    assert check.verdicts["gpu"] == "ok"
    assert check.verdicts["signing"] == "warn"


def test_what_never_answers_does_not_hold_up_the_rest(tmp_path: Path, gpu: StubNvml) -> None:
    with silent_listener() as silent:
        sections = {
            "engine": {"url": f"http://{silent}", "kind": "openai"},
            "provider": {"url": f"http://{silent}", "api_key": TOKEN},
            "redis": {"url": f"redis://{silent}"},
            "server": {"port": 0},
        }
        check = Check(write(tmp_path, sections), "--json", env=gpu.env)
    assert check.code == 1
    assert [check.verdicts[name] for name in ("engine", "hub", "broker")] == ["fail"] * 3
    assert check.took_s < 20


async def test_a_look_that_never_ends_is_given_up() -> None:
    async def stuck(_: Configuration) -> Finding:
        await asyncio.Event().wait()
        raise AssertionError

    found = await look(Configuration(ProviderSettings()), {"driver": stuck}, limit_s=0.05)
    assert found == {"driver": Finding.fail("no answer within 0.05 s")}


def test_a_warning_is_no_failure(tmp_path: Path, parts: dict[str, Any], gpu: StubNvml) -> None:
    file = write(tmp_path, {**parts, "schedule": {"windows": [], "timezone": "UTC"}})
    file.chmod(0o644)
    check = Check(file, "--json", env=gpu.env)
    assert check.code == 0
    assert check.verdicts["file"] == "warn"
    assert "chmod 600" in check.found("file")["advice"]


def test_a_variable_that_is_no_setting_is_noticed(tmp_path: Path, parts: dict[str, Any], gpu: StubNvml) -> None:
    check = Check(write(tmp_path, parts), "--json", env={**gpu.env, "GHUB_PROVIDER_TOKN": TOKEN})
    assert check.found("file")["text"] == "GHUB_PROVIDER_TOKN is set, but is no setting"
    assert check.found("file")["advice"] == "did you mean GHUB_PROVIDER_TOKEN?"
    assert TOKEN not in check.out


class TestHub:
    def test_a_wrong_token_is_named(self, tmp_path: Path, parts: dict[str, Any], gpu: StubNvml) -> None:
        check = Check(write(tmp_path, changed(parts, provider={"api_key": "another-secret"})), "--json", env=gpu.env)
        assert check.code == 1
        assert "does not take this provider's token" in check.found("hub")["text"]
        assert "another-secret" not in check.out

    def test_and_so_is_a_missing_one(self, tmp_path: Path, parts: dict[str, Any], gpu: StubNvml) -> None:
        check = Check(write(tmp_path, changed(parts, provider={"api_key": None})), "--json", env=gpu.env)
        assert (check.code, check.found("hub")["verdict"]) == (1, "fail")
        assert "GHUB_PROVIDER_TOKEN" in check.found("hub")["advice"]

    def test_what_is_no_hub_is_told_from_one(self, tmp_path: Path, parts: dict[str, Any], gpu: StubNvml) -> None:
        file = write(tmp_path, changed(parts, provider={"url": parts["engine"]["url"]}))
        assert Check(file, "--json", env=gpu.env).found("hub")["verdict"] == "warn"

    def test_a_hub_is_not_taken_for_an_engine(self, tmp_path: Path, parts: dict[str, Any], gpu: StubNvml) -> None:
        file = write(tmp_path, changed(parts, engine={"url": parts["provider"]["url"]}))
        assert Check(file, "--json", env=gpu.env).found("engine")["verdict"] == "fail"


class TestJoining:
    """A provider that is told of a hub and a token, and of no broker."""

    def test_what_its_hub_will_tell_it_is_not_missed(
        self, tmp_path: Path, parts: dict[str, Any], gpu: StubNvml, module_grid: Grid
    ) -> None:
        file = write(tmp_path, changed(parts, provider={"signing_key": None}, redis={"url": None}))
        check = Check(file, "--json", env=gpu.env)
        assert (check.code, check.found("broker")["verdict"], check.found("signing")["verdict"]) == (0, "ok", "ok")
        assert "when this provider registers" in check.found("broker")["text"]
        assert check.json["settings"]["redis"]["url"] is None
        with module_grid.redis() as client:
            assert client.execute_command("ACL", "USERS") == ["default"], "a look registers nobody"

    @pytest.mark.parametrize(("required", "verdict"), [(True, "fail"), (False, "ok")])
    def test_a_broker_without_tls_is_refused_where_tls_is_required(
        self, tmp_path: Path, parts: dict[str, Any], gpu: StubNvml, *, required: bool, verdict: str
    ) -> None:
        broker = parts["redis"]["url"] if not required else "redis://broker.invalid:6379"
        file = write(tmp_path, changed(parts, provider={"require_broker_tls": required}, redis={"url": broker}))
        check = Check(file, "--json", env=gpu.env)
        assert check.found("broker")["verdict"] == verdict
        assert ("in clear" in check.found("broker")["text"]) == required


def test_a_broker_that_evicts_is_warned_of(tmp_path: Path, parts: dict[str, Any], gpu: StubNvml) -> None:
    broker = BrokerProcess("valkey", tmp_path)
    try:
        with broker.client() as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
        check = Check(write(tmp_path, changed(parts, redis={"url": broker.url})), "--json", env=gpu.env)
    finally:
        broker.stop()
    assert check.found("broker")["verdict"] == "warn"
    assert "allkeys-lru" in check.found("broker")["text"]
    assert "noeviction" in check.found("broker")["advice"]
    assert "keeps nothing on disk" in check.found("broker")["text"]
    assert "appendonly yes" in check.found("broker")["advice"]


class TestGpu:
    def test_a_gpu_that_is_not_there_is_named(self, tmp_path: Path, parts: dict[str, Any], gpu: StubNvml) -> None:
        check = Check(write(tmp_path, changed(parts, gate={"gpus": [0, 3]})), "--json", env=gpu.env)
        assert check.code == 1
        assert check.found("gpu")["text"] == "gate.gpus: this machine has no GPU 3"
        assert "0 (NVIDIA Stub 4090" in check.found("gpu")["advice"]

    def test_without_any_it_says_what_follows(self, tmp_path: Path, parts: dict[str, Any], gpu: StubNvml) -> None:
        gpu.set()
        check = Check(write(tmp_path, parts), "--json", env=gpu.env)
        assert check.found("gpu")["verdict"] == "warn"
        assert "assume-idle" in check.found("gpu")["text"]
        decided = Check(write(tmp_path, changed(parts, gate={"unknown": "assume-idle"})), "--json", env=gpu.env)
        assert decided.found("gpu")["verdict"] == "ok"


class TestPort:
    def test_one_that_something_else_has_is_a_failure(
        self, tmp_path: Path, parts: dict[str, Any], gpu: StubNvml
    ) -> None:
        port = int(parts["provider"]["url"].rpartition(":")[2])
        check = Check(write(tmp_path, parts), "--port", str(port), "--json", env=gpu.env)
        assert (check.code, check.found("port")["verdict"]) == (1, "fail")
        assert str(port) in check.found("port")["text"]

    def test_one_that_this_provider_has_itself_is_none(
        self, tmp_path: Path, module_grid: Grid, parts: dict[str, Any], gpu: StubNvml
    ) -> None:
        port = free_port()
        node = module_grid.provider(parts["engine"]["url"], GHUB_PROVIDER_SERVER__PORT=str(port), **gpu.env)
        file = write(tmp_path, changed(parts, provider={"name": node}, server={"port": port}))
        assert "runs there already" in Check(file, "--json", env=gpu.env).found("port")["text"]


class TestRefusals:
    def test_mistakes_are_a_line_each_and_nothing_is_looked_at(self, tmp_path: Path) -> None:
        file = write(tmp_path, {"gate": {"treshold_pct": 5}, "server": {"port": "http"}})
        check = Check(file)
        assert (check.code, check.out) == (2, "")
        lines = check.errors.splitlines()
        assert len(lines) == 2
        assert all(line.startswith(f"ghub: {file}:") for line in lines)

    def test_json_alone_is_refused(self, tmp_path: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "ghub", "provider", "--config", os.devnull, "--json"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert (done.returncode, done.stderr) == (2, "ghub: --json goes with --check\n")


class TestStart:
    def test_a_provider_is_set_up_by_its_file_and_warns_of_an_open_secret(
        self, tmp_path: Path, module_grid: Grid, parts: dict[str, Any], gpu: StubNvml
    ) -> None:
        file = write(tmp_path, changed(parts, provider={"slots": 3}, server={"port": 0}))
        file.chmod(0o644)
        module_grid.provider(
            parts["engine"]["url"], "by-file", GHUB_PROVIDER_CONFIG=str(file), GHUB_PROVIDER_SERVER__PORT="0", **gpu.env
        )
        log = module_grid.providers["by-file"].tail
        until(lambda: "config_readable_by_others" in log(), 5, log)
        assert log().count("config_readable_by_others") == 1
        assert TOKEN not in log()
        with module_grid.redis() as client:
            assert module_grid.node(client, "by-file")["slots"] == "3"

    def test_python_m_provider_refuses_with_a_line_for_each_mistake(self, tmp_path: Path, module_grid: Grid) -> None:
        file = write(tmp_path, {"gate": {"treshold_pct": 5}, "server": {"prt": 1}})
        module_grid.provider("http://127.0.0.1:1", "refused", wait=False, GHUB_PROVIDER_CONFIG=str(file))
        process = module_grid.providers["refused"]
        assert process.wait(15) == 2
        lines = process.tail().splitlines()
        assert len(lines) == 2
        assert all(line.startswith(f"ghub provider: {file}:") for line in lines)
