"""The provider as a service: its unit's text, and what happens to files and systemd when it is installed."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ghub.errors import CommandError, StartRefused
from ghub.services import service
from ghub.services.command import service_app, shown
from ghub.services.machine import Machine
from ghub.services.unit import DEFAULT_CONFIG, ServiceUnit, is_in_home, quoted
from tests.support.ports import free_port

UNIT_FILE = "etc/systemd/system/ghub-provider.service"
NOBODY = "http://127.0.0.1:9/health"


class Systemctl:
    """Remembers what it was asked, and answers as told."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, subprocess.CompletedProcess[str]] = {}

    def __call__(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        self.asked.append(" ".join(arguments))
        verb = next(word for word in arguments if not word.startswith("-"))
        return self.answers.get(verb, subprocess.CompletedProcess([], 0, "", ""))

    def answer(self, verb: str, *, out: str = "", error: str = "", status: int = 0) -> None:
        self.answers[verb] = subprocess.CompletedProcess([], status, out, error)


@pytest.fixture
def systemctl() -> Systemctl:
    return Systemctl()


@pytest.fixture
def machine(tmp_path: Path, systemctl: Systemctl) -> Machine:
    """A machine with systemd, in a folder, and root at its keyboard."""
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    tmp_path.chmod(0o755)
    return Machine(
        root=tmp_path, environment={"HOME": "/home/eva"}, platform="linux", is_root=True, systemctl=systemctl
    )


def changed(machine: Machine, **fields: object) -> Machine:
    """The same machine but for some of it."""
    kept = {name: getattr(machine, name) for name in Machine.__slots__}
    return Machine(**{**kept, **fields})


@pytest.fixture
def unit() -> ServiceUnit:
    return ServiceUnit(Path("/opt/ghubai/bin/ghub"), DEFAULT_CONFIG)


@pytest.fixture
def user_unit(machine: Machine) -> ServiceUnit:
    config = Path("/home/eva/.config/ghubai/provider.yaml")
    machine.path(config).parent.mkdir(parents=True)
    machine.path(config).write_text("provider: {name: eva}\n")
    return ServiceUnit(Path("/home/eva/.local/bin/ghub"), config, is_user=True)


def value_of(text: str, name: str) -> str:
    """What a unit sets, which must be set once."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name}=")]
    return line.removeprefix(f"{name}=")


# the unit's text


def test_a_machines_unit_hands_the_settings_to_a_user_that_could_not_read_them(unit: ServiceUnit) -> None:
    text = unit.render()
    assert value_of(text, "ExecStart") == (
        "/opt/ghubai/bin/ghub provider --config ${CREDENTIALS_DIRECTORY}/provider.yaml"
    )
    assert value_of(text, "LoadCredential") == "provider.yaml:/etc/ghubai/provider.yaml"
    assert value_of(text, "DynamicUser") == "yes"


def test_a_users_unit_names_the_file_and_makes_no_users(user_unit: ServiceUnit) -> None:
    text = user_unit.render()
    assert value_of(text, "ExecStart") == (
        "/home/eva/.local/bin/ghub provider --config /home/eva/.config/ghubai/provider.yaml"
    )
    assert value_of(text, "WantedBy") == "default.target"
    assert "DynamicUser" not in text


def test_no_placeholder_is_left(unit: ServiceUnit, user_unit: ServiceUnit) -> None:
    for text in (unit.render(), user_unit.render()):
        words = [word for word in text.split() if word.strip("~").startswith("@")]
        assert set(words) <= {"@system-service", "@resources", "@privileged"}
        assert not any(name in text for name in ("@NAME@", "@CONFIG@", "@EXEC_START@", "@PROTECT_HOME@"))


def test_a_node_name_goes_onto_the_command_line() -> None:
    text = ServiceUnit(Path("/opt/ghub"), DEFAULT_CONFIG, "desk-4090").render()
    assert value_of(text, "ExecStart").endswith(" --name desk-4090")


def test_homes_are_hidden_unless_the_installation_lies_in_one() -> None:
    assert value_of(ServiceUnit(Path("/opt/ghub"), DEFAULT_CONFIG).render(), "ProtectHome") == "yes"
    in_home = ServiceUnit(Path("/home/eva/ghub"), DEFAULT_CONFIG, reads_home=is_in_home(Path("/home/eva/ghub")))
    assert value_of(in_home.render(), "ProtectHome") == "read-only"
    assert not is_in_home(Path("/homestead/ghub"))


@pytest.mark.parametrize(
    ("word", "as_systemd_reads_it"),
    [
        ("/opt/ghub", "/opt/ghub"),
        ("/my files/ghub", '"/my files/ghub"'),
        ("/100%/ghub", "/100%%/ghub"),
        ("/100 %/ghub", '"/100 %%/ghub"'),
        ("/a$HOME", '"/a$$HOME"'),
        ('/a"b', '"/a\\"b"'),
        ("/a\\b", '"/a\\\\b"'),
        ("/it's", '"/it\'s"'),
    ],
)
def test_a_word_reaches_the_command_as_it_is(word: str, as_systemd_reads_it: str) -> None:
    assert quoted(word) == as_systemd_reads_it


def test_dollars_in_the_programs_own_path_stay_single() -> None:
    assert quoted("/a$b", is_program=True) == '"/a$b"'


# install


def test_install_writes_enables_and_starts_without_waiting_for_the_broker(
    machine: Machine, systemctl: Systemctl, unit: ServiceUnit
) -> None:
    said = service.install(unit, machine)
    file = machine.root / UNIT_FILE
    assert file.read_text() == unit.render()
    assert file.stat().st_mode & 0o777 == 0o644
    assert systemctl.asked == ["daemon-reload", "enable ghub-provider", "restart --no-block ghub-provider"]
    assert f"wrote {file}" in said
    assert any("ghub service status" in line for line in said)


def test_install_without_start_says_how_to(machine: Machine, systemctl: Systemctl, unit: ServiceUnit) -> None:
    said = service.install(unit, machine, start=False)
    assert systemctl.asked == ["daemon-reload"]
    assert "start it: systemctl enable --now ghub-provider" in said


def test_install_says_that_the_settings_are_missing(machine: Machine, unit: ServiceUnit) -> None:
    assert any("does not exist yet" in line for line in service.install(unit, machine))
    config = machine.path(unit.config)
    config.parent.mkdir(parents=True)
    config.touch()
    assert not any("does not exist yet" in line for line in service.install(unit, machine))


def test_a_user_installs_without_root(machine: Machine, systemctl: Systemctl, user_unit: ServiceUnit) -> None:
    said = service.install(user_unit, changed(machine, is_root=False))
    assert (machine.root / "home/eva/.config/systemd/user/ghub-provider.service").is_file()
    assert systemctl.asked[0] == "--user daemon-reload"
    assert any("enable-linger" in line for line in said)


def test_a_user_without_settings_is_told_before_anything_is_written(machine: Machine, user_unit: ServiceUnit) -> None:
    machine.path(user_unit.config).unlink()
    with pytest.raises(StartRefused, match=r"provider\.yaml does not exist"):
        service.install(user_unit, machine)
    assert not machine.unit_file(is_user=True).exists()


def test_installing_anew_replaces_our_own_unit(machine: Machine, unit: ServiceUnit) -> None:
    service.install(unit, machine)
    service.install(ServiceUnit(unit.ghub, unit.config, "other"), machine)
    assert "--name other" in (machine.root / UNIT_FILE).read_text()


def test_a_unit_of_somebody_else_is_overwritten_by_force_only(machine: Machine, unit: ServiceUnit) -> None:
    file = machine.root / UNIT_FILE
    file.parent.mkdir(parents=True)
    file.write_text("[Service]\nExecStart=/bin/true\n")
    with pytest.raises(StartRefused, match="--force"):
        service.install(unit, machine)
    assert file.read_text() == "[Service]\nExecStart=/bin/true\n"
    service.install(unit, machine, force=True)
    assert file.read_text() == unit.render()


def test_a_masked_service_is_not_written_through_its_link(machine: Machine, unit: ServiceUnit) -> None:
    file = machine.root / UNIT_FILE
    file.parent.mkdir(parents=True)
    elsewhere = machine.root / "elsewhere"
    elsewhere.touch()
    file.symlink_to(elsewhere)
    with pytest.raises(StartRefused, match="--force"):
        service.install(unit, machine)
    service.install(unit, machine, force=True)
    assert not file.is_symlink()
    assert elsewhere.read_text() == ""


@pytest.mark.parametrize(
    ("surrounding", "told"),
    [
        ({"is_root": False}, "sudo"),
        ({"platform": "darwin"}, "launchd is not supported yet"),
        ({"root": Path("/nonexistent")}, "systemd does not run"),
    ],
)
def test_a_surrounding_that_cannot_work_is_one_clear_line(
    machine: Machine, unit: ServiceUnit, systemctl: Systemctl, surrounding: dict[str, object], told: str
) -> None:
    with pytest.raises(StartRefused, match=told) as refused:
        service.install(unit, changed(machine, **surrounding))
    assert "\n" not in str(refused.value)
    assert not systemctl.asked


def test_a_command_that_the_services_user_cannot_come_to_is_refused(machine: Machine) -> None:
    private = machine.root / "srv/eva"
    private.mkdir(parents=True)
    private.chmod(0o700)
    with pytest.raises(StartRefused, match=r"lies in /srv/eva, which other users cannot enter"):
        service.install(ServiceUnit(Path("/srv/eva/bin/ghub"), DEFAULT_CONFIG), machine)


def test_a_refusal_by_systemd_is_one_line(machine: Machine, systemctl: Systemctl, unit: ServiceUnit) -> None:
    systemctl.answer("enable", error="Failed to enable unit:\nAccess denied\n", status=1)
    with pytest.raises(CommandError) as failed:
        service.install(unit, machine)
    assert str(failed.value) == "systemctl enable ghub-provider failed: Failed to enable unit: Access denied"


def test_a_systemctl_that_hangs_or_is_missing_is_one_line(machine: Machine, unit: ServiceUnit) -> None:
    def missing(_: Sequence[str]) -> subprocess.CompletedProcess[str]:
        raise FileNotFoundError(2, "No such file or directory", "systemctl")

    with pytest.raises(CommandError, match=r"systemctl daemon-reload: .*No such file"):
        service.install(unit, changed(machine, systemctl=missing))


# uninstall


def test_uninstall_drains_and_removes(machine: Machine, systemctl: Systemctl, unit: ServiceUnit) -> None:
    service.install(unit, machine)
    systemctl.asked.clear()
    service.uninstall(machine, is_user=False)
    assert not (machine.root / UNIT_FILE).exists()
    assert systemctl.asked == ["disable ghub-provider", "stop ghub-provider", "daemon-reload"]


def test_uninstall_leaves_what_is_not_ours(machine: Machine, systemctl: Systemctl) -> None:
    with pytest.raises(StartRefused, match="not installed"):
        service.uninstall(machine, is_user=False)
    file = machine.root / UNIT_FILE
    file.parent.mkdir(parents=True)
    file.write_text("[Service]\n")
    with pytest.raises(StartRefused, match="by hand"):
        service.uninstall(machine, is_user=False)
    assert file.exists()
    assert not systemctl.asked


def test_a_service_that_does_not_stop_keeps_its_unit(machine: Machine, systemctl: Systemctl, unit: ServiceUnit) -> None:
    service.install(unit, machine)
    systemctl.answer("stop", error="Job canceled", status=1)
    with pytest.raises(CommandError, match="Job canceled"):
        service.uninstall(machine, is_user=False)
    assert (machine.root / UNIT_FILE).exists()


# status

RUNNING = """\
LoadState=loaded
ActiveState=active
SubState=running
ActiveEnterTimestamp=Sat 2026-11-21 10:00:00 UTC
MainPID=4711
NRestarts=2
Result=success
StatusText=idle: 2 models
"""


@pytest.fixture
def health_url() -> Iterator[str]:
    """A node that tells how it stands."""

    class Node(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = {"node": "desk", "state": "paused", "reasons": ["gpu-busy"], "running": 1, "slots": 4, "gpus": []}
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", free_port()), Node) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/health"
        server.shutdown()
        thread.join()


def test_status_joins_what_systemd_and_the_node_say(
    machine: Machine, systemctl: Systemctl, unit: ServiceUnit, health_url: str
) -> None:
    service.install(unit, machine)
    systemctl.answer("show", out=RUNNING)
    facts = service.status(machine, is_user=False, health_url=health_url)
    assert facts["active"] is True
    assert (facts["pid"], facts["restarts"]) == (4711, 2)
    assert facts["config"] == "/etc/ghubai/provider.yaml"
    assert facts["node"]["reasons"] == ["gpu-busy"]
    lines = "\n".join(shown(facts))
    assert "active (running)" in lines
    assert "desk: paused (gpu-busy), 1 of 4 slots in use" in lines


def test_status_of_what_is_not_installed_is_told_too(machine: Machine, systemctl: Systemctl) -> None:
    systemctl.answer("show", out="LoadState=not-found\nActiveState=inactive\nSubState=dead\nMainPID=0\n")
    facts = service.status(changed(machine, is_root=False), is_user=False, health_url=NOBODY)
    assert facts["active"] is False
    assert (facts["unit"], facts["pid"], facts["node"]) == (None, None, None)
    assert any(line.startswith("node") and "does not answer" in line for line in shown(facts))


# the command


def test_print_shows_the_unit_of_this_installation() -> None:
    result = CliRunner().invoke(service_app, ["print", "--config", "/srv/p.yaml", "--name", "n1"])
    assert result.exit_code == 0
    assert value_of(result.output, "LoadCredential") == "provider.yaml:/srv/p.yaml"
    program = value_of(result.output, "ExecStart").partition(" ")[0].strip('"')
    assert Path(program) == Path(sys.executable).with_name("ghub")


def test_print_refuses_what_cannot_stand_in_a_unit() -> None:
    for wrong in (["--name", "a b"], ["--config", "/a\nb"]):
        result = CliRunner().invoke(service_app, ["print", *wrong])
        assert isinstance(result.exception, StartRefused)
