"""What a service tells systemd, heard on a real datagram socket."""

import os
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from provider.notify import ServiceNotifier


class Manager:
    """The service manager's end."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(5)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.environment = {"NOTIFY_SOCKET": address}

    def heard(self) -> list[str]:
        """The assignments of the next message."""
        return self._socket.recv(4096).decode().split("\n")

    def has_heard_nothing(self) -> bool:
        self._socket.setblocking(False)
        try:
            self._socket.recv(4096)
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """A manager that listens in a folder; by a relative name, since such addresses may be no longer than 100 bytes."""
    monkeypatch.chdir(tmp_path)
    listening = Manager("notify")
    yield listening
    listening.close()


def test_ready_comes_with_a_status(manager: Manager) -> None:
    ServiceNotifier(manager.environment).ready("node a: 2 models")
    assert manager.heard() == ["READY=1", "STATUS=node a: 2 models"]


def test_ready_without_a_status_leaves_the_last_one(manager: Manager) -> None:
    ServiceNotifier(manager.environment).ready()
    assert manager.heard() == ["READY=1"]


def test_each_step_of_a_life_is_told(manager: Manager) -> None:
    notifier = ServiceNotifier(manager.environment)
    notifier.alive()
    notifier.status("paused: gpu-busy")
    notifier.stopping()
    assert [manager.heard() for _ in range(3)] == [["WATCHDOG=1"], ["STATUS=paused: gpu-busy"], ["STOPPING=1"]]


def test_a_status_cannot_smuggle_in_another_assignment(manager: Manager) -> None:
    ServiceNotifier(manager.environment).status("all well\nMAINPID=1")
    assert manager.heard() == ["STATUS=all well MAINPID=1"]


@pytest.mark.skipif(sys.platform != "linux", reason="abstract addresses are Linux's")
def test_an_abstract_address_is_reached() -> None:
    manager = Manager(f"@ghub-test-{uuid4().hex}")
    try:
        ServiceNotifier(manager.environment).ready()
        assert manager.heard() == ["READY=1"]
    finally:
        manager.close()


@pytest.mark.parametrize("address", ["", "gone", "x" * 300, "nul\0byte"])
def test_nobody_listening_disturbs_nothing(address: str, manager: Manager) -> None:
    ServiceNotifier({"NOTIFY_SOCKET": address} if address else {}).ready("up")
    assert manager.has_heard_nothing()


def test_a_manager_that_reads_nothing_holds_nothing_up(manager: Manager) -> None:
    notifier = ServiceNotifier(manager.environment)
    began = time.monotonic()
    for _ in range(2000):  # more than a socket's queue takes
        notifier.alive()
    assert time.monotonic() - began < 10
    assert manager.heard() == ["WATCHDOG=1"]


def test_a_word_that_comes_once_outlasts_a_manager_that_is_busy(manager: Manager) -> None:
    notifier = ServiceNotifier(manager.environment)
    for _ in range(2000):
        notifier.alive()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(notifier.stopping)
        while (heard := manager.heard()) != ["STOPPING=1"]:
            assert heard == ["WATCHDOG=1"]


def test_the_watchdog_is_fed_at_half_its_limit() -> None:
    mine = {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    assert ServiceNotifier(mine).watchdog_interval_s == 15
    assert ServiceNotifier({"WATCHDOG_USEC": "500000"}).watchdog_interval_s == 0.25


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "me"},
    ],
)
def test_without_a_watchdog_for_this_process_there_is_no_interval(environment: dict[str, str]) -> None:
    assert ServiceNotifier(environment).watchdog_interval_s is None
