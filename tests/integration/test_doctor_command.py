"""`ghub doctor` in the four surroundings: nothing yet, `ghub up`, a hub's machine, a provider's machine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.process import EngineProcess
from tests.support.brokers import BrokerProcess
from tests.support.grid import SIGNING_KEY, Grid
from tests.support.operator import ADMIN, ADMIN_TOKEN, ghub, told
from tests.support.ports import free_port
from tests.support.processes import until
from tests.support.up import Up

PROVIDER_TOKEN = "0123456789-token-of-the-hub"


class Visit:
    """What one run found: verdicts and findings by name, and its exit code."""

    def __init__(self, *words: str, **env: str) -> None:
        nobody = {"GHUB_PROVIDER_CONFIG": "", "GHUB_PROVIDER_SERVER__PORT": str(free_port())}
        done = ghub("doctor", *words, "--json", **{**nobody, **env})
        assert done.stderr == "", done.stderr
        self.out, self.code = done.stdout, done.returncode
        self.found: dict[str, Any] = {one["name"]: one for one in json.loads(done.stdout)["checks"]}

    def verdict(self, *names: str) -> list[str]:
        return [self.found[name]["verdict"] for name in names]

    def said(self, name: str) -> str:
        return f"{self.found[name]['text']} -> {self.found[name]['advice']}"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with EngineProcess() as engine:
        folder = tmp_path_factory.mktemp("up") / "data"
        up = Up(
            folder,
            "--engine-url",
            engine.url,
            env={"GHUB_REDIS_URL": "", "GHUB_PROVIDER_GATE__UNKNOWN": "assume-idle"},
        )
        try:
            up.until("ready ")
            yield up
        finally:
            up.process.terminate()
            up.ends()
            up.close()


@pytest.fixture(scope="module")
def hub(module_grid: Grid) -> str:
    return module_grid.hub(GHUB_HUB_PROVIDER_TOKENS=PROVIDER_TOKEN, **ADMIN)


def test_where_nothing_runs_yet_it_says_how_to_begin(tmp_path: Path) -> None:
    nothing = f"http://127.0.0.1:{free_port()}"
    visit = Visit("--data-dir", str(tmp_path / "none"), GHUB_PROVIDER_ENGINE__URL=nothing)
    if visit.verdict("port") == ["ok"] and "free" in visit.said("port"):  # else somebody's hub runs on this machine
        assert (visit.code, visit.verdict("hub")) == (1, ["fail"])
        assert "ghub up" in visit.said("hub")
    assert visit.verdict("stack", "provider", "settings", "engine", "gpu", "signing", "broker") == ["skip"] * 7


class TestUp:
    def test_all_of_it_is_found_and_well(self, up: Up) -> None:
        visit = Visit("--data-dir", str(up.data_dir))
        well = ["stack", "folder", "hub", "port", "operator", "clients", "grid", "provider", "engine", "signing"]
        broker = ["broker", "persistence", "memory", "acl", "clock"]
        assert visit.verdict(*well, *broker) == ["ok"] * 15, visit.out
        assert visit.code == 0
        assert str(up.process.pid) in visit.said("stack")
        assert up.base_url in visit.said("hub")
        assert "tiny:1b" in visit.said("engine")
        for secret in up.data_dir.iterdir():
            if secret.is_file() and secret.name != "lock":
                assert secret.read_text().strip() not in visit.out

    def test_people_get_lines_and_a_sum(self, up: Up) -> None:
        done = ghub("doctor", "--data-dir", str(up.data_dir))
        assert done.returncode == 0
        assert done.stdout.splitlines()[0].startswith("ok    ghub ")
        assert done.stdout.splitlines()[-1] == "all is well" or "to know of" in done.stdout.splitlines()[-1]

    def test_a_provider_that_is_paused_says_why(self, up: Up) -> None:
        headers = {"GHUB_HUB_URL": up.base_url, "GHUB_DATA_DIR": str(up.data_dir)}
        node = json.loads(ghub("nodes", "--json", **headers).stdout)["nodes"][0]["node"]
        assert ghub("nodes", "pause", node, **headers).returncode == 0
        until(
            lambda: json.loads(ghub("nodes", "--json", **headers).stdout)["nodes"][0]["state"] == "paused",
            10,
            "it pauses",
        )
        visit = Visit("--data-dir", str(up.data_dir))
        assert (visit.verdict("provider", "grid"), visit.code) == (["warn", "warn"], 0)
        assert f"ghub why {node}" in visit.said("provider")


class TestHub:
    """A machine that has a hub and is told of the broker."""

    def env(self, hub: str, grid: Grid) -> dict[str, str]:
        nothing = f"http://127.0.0.1:{free_port()}"
        return {"GHUB_HUB_URL": hub, "GHUB_REDIS_URL": grid.broker.url, "GHUB_PROVIDER_ENGINE__URL": nothing}

    def test_hub_and_broker_are_looked_at_and_no_provider_is_missed(self, hub: str, module_grid: Grid) -> None:
        visit = Visit(**self.env(hub, module_grid), GHUB_HUB_ADMIN_TOKEN=ADMIN_TOKEN)
        assert visit.verdict("hub", "port", "operator", "clients") == ["ok"] * 4
        assert visit.verdict("provider", "settings", "engine", "gpu") == ["skip"] * 4
        assert visit.verdict("broker", "memory", "clock") == ["ok"] * 3
        assert visit.verdict("persistence", "acl", "grid") == ["warn"] * 3, visit.out
        assert "appendonly yes" in visit.said("persistence")
        assert "ghub token create" in visit.said("grid")
        assert visit.code == 0

    def test_a_wrong_admin_token_fails_and_none_is_no_failure(self, hub: str, module_grid: Grid) -> None:
        wrong = Visit(**self.env(hub, module_grid), GHUB_HUB_ADMIN_TOKEN="wrong-and-long-enough")
        assert (wrong.code, wrong.verdict("operator")) == (1, ["fail"])
        assert "wrong-and-long" not in wrong.out
        assert Visit(**self.env(hub, module_grid)).verdict("operator")[0] in ("ok", "skip")

    def test_a_broker_that_evicts_or_is_away_fails(self, hub: str, tmp_path: Path) -> None:
        broker = BrokerProcess("valkey", tmp_path, "--maxmemory-policy", "allkeys-lru")
        with broker.client() as client:
            client.config_set("requirepass", "secret-of-it")
        url = broker.url.replace("//", "//:secret-of-it@")
        try:
            visit = Visit(GHUB_HUB_URL=hub, GHUB_REDIS_URL=url)
            assert (visit.code, visit.verdict("memory", "acl")) == (1, ["fail", "ok"])
            assert "noeviction" in visit.said("memory")
            denied = Visit(GHUB_HUB_URL=hub, GHUB_REDIS_URL=broker.url)
            assert (denied.code, denied.verdict("broker")) == (1, ["fail"])
        finally:
            broker.stop()
        away = Visit(GHUB_HUB_URL=hub, GHUB_REDIS_URL=url)
        assert (away.code, away.verdict("broker")) == (1, ["fail"])
        assert "secret-of-it" not in visit.out + denied.out + away.out

    def test_what_has_the_port_and_is_no_hub_is_named(self) -> None:
        with EngineProcess() as engine:
            visit = Visit(GHUB_HUB_URL=engine.url)
        assert (visit.code, visit.verdict("hub", "port", "clients")) == (1, ["fail", "fail", "skip"])

    def test_one_that_is_open_to_others_without_keys_is_warned_of(self, module_grid: Grid) -> None:
        hub = module_grid.hub(GHUB_HUB_HOST="0.0.0.0", GHUB_HUB_AUTH="off", **ADMIN)
        visit = Visit(GHUB_HUB_URL=hub, GHUB_HUB_ADMIN_TOKEN=ADMIN_TOKEN)
        assert visit.verdict("clients") == ["warn"]
        assert "GHUB_HUB_AUTH=required" in visit.said("clients")


class TestProvider:
    """A machine that has a provider, set up by a file, and is told of the hub by it."""

    def test_what_it_needs_is_looked_at(self, module_grid: Grid, tmp_path: Path) -> None:
        hub = module_grid.hub(GHUB_HUB_PROVIDER_TOKENS=PROVIDER_TOKEN, **ADMIN)
        engine = module_grid.engine()
        port = free_port()
        file = tmp_path / "provider.yaml"
        file.touch(mode=0o600)
        file.write_text(
            f"provider: {{name: gpu-1, url: '{hub}', api_key: {PROVIDER_TOKEN}, signing_key: '{SIGNING_KEY}'}}\n"
            f"engine: {{url: '{engine.url}'}}\nserver: {{port: {port}}}\ngate: {{unknown: assume-idle}}\n"
        )
        env = {"GHUB_PROVIDER_CONFIG": str(file), "GHUB_PROVIDER_SERVER__PORT": str(port)}
        before = Visit(**env)
        assert (before.code, before.verdict("provider")) == (1, ["fail"])
        assert "ghub provider" in before.said("provider")
        module_grid.provider(engine.url, "gpu-1", wait=False, **env)
        until(lambda: told(hub, "GET", "/api/nodes")["nodes"], 15, "it joins")
        visit = Visit(**env)
        names = ["hub", "provider", "settings", "membership", "engine", "gpu", "signing"]
        assert visit.verdict(*names) == ["ok"] * 7, visit.out
        assert visit.code == 0
        assert PROVIDER_TOKEN not in visit.out

    def test_settings_that_cannot_work_are_told_line_by_line(self, tmp_path: Path) -> None:
        file = tmp_path / "provider.yaml"
        file.write_text("gate: {treshold_pct: 5}\n")
        visit = Visit("--config", str(file))
        assert (visit.code, visit.verdict("settings", "provider")) == (1, ["fail", "fail"])
        assert "treshold_pct" in visit.said("settings")
