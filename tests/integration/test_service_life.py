"""A provider under a service manager: what it tells, and when."""

import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.call import Call
from tests.support.grid import Grid, chat
from tests.support.processes import until

WATCHDOG_S = 0.4


class Manager:
    """The end of the socket that systemd has."""

    def __init__(self, address: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(10)
        self._socket.bind(str(address))
        self.environment = {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": f"{WATCHDOG_S * 1_000_000:.0f}"}

    def wait_for(self, assignment: str) -> list[str]:
        """Listen until this is told, and return all that was told up to it; TimeoutError after 10 s of silence."""
        heard: list[str] = []
        while assignment not in heard:
            heard += self._socket.recv(4096).decode().split("\n")
        return heard

    def forget(self) -> None:
        """Drop what has come and was not read."""
        self._socket.setblocking(False)
        while True:
            try:
                self._socket.recv(4096)
            except BlockingIOError:
                break
        self._socket.settimeout(10)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager() -> Iterator[Manager]:
    folder = Path(tempfile.mkdtemp(prefix="ghub-"))  # an address is at most 104 bytes long, so not in pytest's folder
    listening = Manager(folder / "notify")
    yield listening
    listening.close()
    shutil.rmtree(folder)


def test_a_service_tells_when_it_is_ready_and_stopping_and_lives_through_a_reload(
    module_grid: Grid, manager: Manager
) -> None:
    engine = module_grid.engine("told:1b")
    node = module_grid.provider(engine.url, "told", wait=False, **manager.environment)
    before = manager.wait_for("READY=1")
    assert "STOPPING=1" not in before
    module_grid.wait_for_node(node)
    module_grid.providers[node].signal(signal.SIGHUP)
    manager.forget()
    for _ in range(3):
        manager.wait_for("WATCHDOG=1")
    module_grid.providers[node].signal(signal.SIGTERM)
    manager.wait_for("STOPPING=1")
    assert module_grid.providers[node].wait(10) == 0


def test_a_service_that_drains_still_feeds_its_watchdog(module_grid: Grid, manager: Manager) -> None:
    hub = module_grid.hub()
    engine = module_grid.engine("slow:1b")
    node = module_grid.provider(engine.url, "slow", **manager.environment)
    module_grid.wait_for_model(hub, "slow:1b")
    with Call(hub, chat(model="slow:1b", tokens=200, stream=True, double={"delay_ms": 10})) as call:
        call.wait_for('"content"')
        manager.forget()
        module_grid.providers[node].signal(signal.SIGTERM)
        manager.wait_for("STOPPING=1")
        for _ in range(3):
            manager.wait_for("WATCHDOG=1")
        assert call.finish().is_ended_once
    until(lambda: not module_grid.providers[node].is_running, 10, module_grid.providers[node].tail)
