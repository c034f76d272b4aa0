"""`ghub hub --workers N`: hubs that share a port, one of which may die."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.brokers import BrokerProcess
from tests.support.call import is_ok, status_of
from tests.support.ports import free_port
from tests.support.processes import Process, python, until


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    server = BrokerProcess("valkey", tmp_path)
    yield server
    server.kill()


def ghub(tmp_path: Path, *args: str) -> Process:
    return Process("ghub", python("-m", "ghub", *args), tmp_path / "ghub.log", {"GHUB_HUB_AUTH": "off"})


def children_of(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_hubs_share_a_port_and_one_that_dies_is_replaced(tmp_path: Path, broker: BrokerProcess) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    parent = ghub(tmp_path, "hub", "--workers", "3", "--port", str(port), "--redis-url", broker.url)
    try:
        until(lambda: parent.log.read_text().count("hub_started") == 3, 30, parent.tail)
        until(lambda: is_ok(url, "/health/ready"), 20, parent.tail)
        assert len(children_of(parent.pid)) == 3
        os.kill(children_of(parent.pid)[0], signal.SIGKILL)
        until(lambda: "hub_ended" in parent.log.read_text(), 5, parent.tail)
        assert all(status_of(url, "/health/live") == 200 for _ in range(20)), "the others serve"
        until(lambda: parent.log.read_text().count("hub_started") == 4, 30, parent.tail)
        parent.signal(signal.SIGTERM)
        assert parent.wait(15) == 0
        assert parent.log.read_text().count("hub_stopped") == 3
    finally:
        parent.stop()


def test_none_outlives_its_parent(tmp_path: Path, broker: BrokerProcess) -> None:
    parent = ghub(tmp_path, "hub", "--workers", "2", "--port", "0", "--redis-url", broker.url)
    until(lambda: parent.log.read_text().count("hub_started") == 2, 30, parent.tail)
    children = children_of(parent.pid)
    parent.kill()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 5, parent.tail)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--workers", "0"), "--workers"),
        (("--workers", "2", "--redis-url", "http://x"), "broker URL"),
        (("--workers", "2", "--host", "192.0.2.1"), "192.0.2.1"),
    ],
)
def test_what_cannot_work_is_refused_at_once(tmp_path: Path, args: tuple[str, ...], said: str) -> None:
    parent = ghub(tmp_path, "hub", "--port", str(free_port()), *args)
    assert parent.wait(20) == 2
    assert said in parent.log.read_text()
