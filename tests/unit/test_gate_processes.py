"""The engine's processes: found by who listens at its URL, by name, and with all that they started."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from provider.gate import processes
from provider.gate.processes import is_pid_namespaced, own_pids

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows its sockets to all")

LISTENER = """
import socket, subprocess, sys
host, python = sys.argv[1:]
listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
runner = "import sys; print(flush=True); sys.stdin.read()"
child = subprocess.Popen([python, "-c", runner], stdout=subprocess.PIPE)
child.stdout.readline()
print(listener.getsockname()[1], child.pid, flush=True)
sys.stdin.read()
child.wait()
"""
"""Listens at any port, has a child, tells both, and ends with it when the test hangs up."""


class RunningEngine:
    """A process that listens, with a child, as an engine with a runner for its model."""

    def __init__(self, host: str, called: str) -> None:
        self._process = subprocess.Popen(
            [called, "-c", LISTENER, host, sys.executable],
            executable=sys.executable,
            env=os.environ | {"PYTHONHOME": sys.base_prefix},  # which it else finds by what it is called
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with contextlib.ExitStack() as unless_it_runs:
            unless_it_runs.callback(self.stop)
            assert self._process.stdout is not None
            self.port, child = map(int, self._process.stdout.readline().split())
            self.pids = {self._process.pid, child}
            unless_it_runs.pop_all()

    def stop(self) -> None:
        if self._process.returncode is None:
            self._process.communicate(timeout=30)


@pytest.fixture(autouse=True)
def _outside_of_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever these tests themselves run in; what is found doesn't depend on it."""
    monkeypatch.setattr(processes, "is_pid_namespaced", lambda: False)


@pytest.fixture
def start() -> Iterator[Callable[..., RunningEngine]]:
    running: list[RunningEngine] = []

    def _start(*, host: str = "127.0.0.1", called: str = sys.executable) -> RunningEngine:
        running.append(RunningEngine(host, called))
        return running[-1]

    yield _start
    for engine in running:
        engine.stop()


@linux_only
class TestByItsPort:
    @pytest.mark.parametrize("url", ["http://127.0.0.1:{}", "http://localhost:{}/api", "http://0.0.0.0:{}"])
    def test_the_listener_and_its_child_are_the_engine(self, start: Callable[..., RunningEngine], url: str) -> None:
        engine = start()
        assert own_pids(url.format(engine.port), ()) == engine.pids

    def test_a_listener_at_all_addresses_is_found_by_each(self, start: Callable[..., RunningEngine]) -> None:
        engine = start(host="0.0.0.0")
        for host in ("127.0.0.1", "localhost", *(address for address in _addresses() if "." in address)):
            assert own_pids(f"http://{host}:{engine.port}", ()) == engine.pids

    def test_a_listener_at_ipv6_is_found(self, start: Callable[..., RunningEngine]) -> None:
        if not socket.has_ipv6 or "::1" not in _addresses():
            pytest.skip("no IPv6 here")
        engine = start(host="::1")
        assert own_pids(f"http://[::1]:{engine.port}", ()) == engine.pids

    def test_a_listener_at_another_of_our_addresses_is_somebody_else(
        self, start: Callable[..., RunningEngine], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(processes, "ENGINES", frozenset())
        engine = start(host="127.0.0.1")
        assert own_pids(f"http://127.0.0.9:{engine.port}", ()) is None

    def test_another_engine_beside_it_is_not_taken_for_it(self, start: Callable[..., RunningEngine]) -> None:
        engine, other = start(), start(called="ollama")
        found = own_pids(f"http://127.0.0.1:{engine.port}", ())
        assert found is not None
        assert not found & other.pids


class TestByName:
    def test_all_that_are_called_so_count_beside_the_listener(self, start: Callable[..., RunningEngine]) -> None:
        worker = start(called="/opt/some where/My-Worker")
        assert own_pids("http://192.0.2.1:1", ["my-worker", "absent"]) == worker.pids

    def test_an_engine_on_another_machine_has_no_processes_here(self, start: Callable[..., RunningEngine]) -> None:
        engine = start(called="ollama")
        for host in ("192.0.2.1", "gpu.example.com", "[2001:db8::1]"):
            assert own_pids(f"http://{host}:{engine.port}", ()) is None

    def test_what_nobody_is_called_and_nobody_listens_at_is_not_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(processes, "ENGINES", frozenset())
        assert own_pids("http://127.0.0.1:1", ["no-such-process"]) is None

    @pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "http://[::1", "", "nonsense"])
    def test_a_url_that_cannot_be_read_leads_nowhere(self, url: str) -> None:
        assert own_pids(url, ()) is None


class TestListenersOutOfSight:
    """Names of our own stand for those of common engines, as a real one may be running where the tests do."""

    @pytest.fixture(autouse=True)
    def _engines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(processes, "ENGINES", frozenset({"stand-in-engine"}))

    @pytest.fixture
    def sockets_of_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As for a user who isn't the engine's: sockets without their processes."""
        everything = psutil.net_connections

        def without_pids(kind: str) -> list[object]:
            return [one._replace(pid=None) for one in everything(kind)]

        monkeypatch.setattr(psutil, "net_connections", without_pids)

    @linux_only
    @pytest.mark.usefixtures("sockets_of_others")
    def test_an_engine_of_another_user_is_known_by_its_name(self, start: Callable[..., RunningEngine]) -> None:
        engine = start(called="/usr/bin/stand-in-engine")
        assert own_pids(f"http://127.0.0.1:{engine.port}", ()) == engine.pids

    @linux_only
    @pytest.mark.usefixtures("sockets_of_others")
    def test_of_two_users_engines_the_listening_users_counts(
        self, start: Callable[..., RunningEngine], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine, other = start(called="stand-in-engine"), start(called="stand-in-engine")
        user_of = processes._user
        monkeypatch.setattr(processes, "_user", lambda pid: -1 if pid in other.pids else user_of(pid))
        assert own_pids(f"http://127.0.0.1:{engine.port}", ()) == engine.pids

    def test_where_no_sockets_are_shown_at_all_the_name_is_enough(
        self, start: Callable[..., RunningEngine], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def denied(kind: str) -> list[object]:
            raise psutil.AccessDenied(msg=kind)

        monkeypatch.setattr(psutil, "net_connections", denied)
        engine = start(called="Stand-In-Engine::Core_0")
        assert own_pids(f"http://localhost:{engine.port}", ()) == engine.pids

    @linux_only
    def test_the_proxy_of_a_container_is_not_the_engine_in_it(self, start: Callable[..., RunningEngine]) -> None:
        proxy, engine = start(called="/usr/bin/docker-proxy"), start(called="stand-in-engine")
        assert own_pids(f"http://127.0.0.1:{proxy.port}", ()) == engine.pids


class TestProcessesThatVanish:
    def test_one_that_ended_is_no_longer_the_engines(self, start: Callable[..., RunningEngine]) -> None:
        engine = start(called="short-lived")
        assert own_pids("http://192.0.2.1", ["short-lived"]) == engine.pids
        engine.stop()
        assert own_pids("http://192.0.2.1", ["short-lived"]) is None

    def test_one_that_ends_before_its_user_is_asked_for_has_none(self, start: Callable[..., RunningEngine]) -> None:
        engine = start()
        assert all(processes._user(pid) is not None for pid in engine.pids)
        engine.stop()
        assert all(processes._user(pid) is None for pid in engine.pids)


class TestContainers:
    def test_pids_of_its_own_mean_nothing_to_the_driver(
        self, start: Callable[..., RunningEngine], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = start(called="in-a-container")
        monkeypatch.setattr(processes, "is_pid_namespaced", lambda: True)
        assert own_pids(f"http://127.0.0.1:{engine.port}", ["in-a-container"]) is None

    @linux_only
    def test_a_namespace_is_noticed_from_inside(self) -> None:
        asks = "from provider.gate.processes import is_pid_namespaced as asked; print(asked())"
        unshare = shutil.which("unshare")
        if unshare is None:
            pytest.skip("no unshare here")
        inside = subprocess.run(
            [unshare, "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", sys.executable, "-c", asks],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        if inside.returncode:
            pytest.skip("namespaces may not be made here")
        assert inside.stdout.strip() == "True"

    @linux_only
    def test_where_the_kernels_own_threads_show_there_is_none(self) -> None:
        thread = Path("/proc/2/comm")
        if not thread.exists() or thread.read_text() != "kthreadd\n":
            pytest.skip("these tests run in a namespace of pids")
        assert not is_pid_namespaced()

    def test_where_nothing_tells_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(processes, "Path", lambda _: Path("/nowhere/at/all"))
        assert not is_pid_namespaced()


def _addresses() -> list[str]:
    """This machine's own, of all kinds."""
    return [one.address for several in psutil.net_if_addrs().values() for one in several]
