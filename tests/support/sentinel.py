"""A broker that sentinels look after: a master, replicas, three sentinels, all real and on loopback."""

import signal
from contextlib import suppress
from pathlib import Path

import redis

from tests.support.brokers import BrokerProcess, replicated_server, server_binary
from tests.support.ports import free_port
from tests.support.processes import Process, until

SERVICE = "ghub-master"
SENTINELS, QUORUM = 3, 2
DOWN_AFTER_MS = 1000
"""How long a master is silent before a sentinel holds it for dead."""
FAILOVER_TIMEOUT_MS = 3000
START_S, FAILOVER_S = 15.0, 20.0


class SentinelBroker(BrokerProcess):
    """A service of several servers, which the sentinels keep going when its master is lost.

    Servers keep nothing on disk unless `options` say otherwise. `process` is the master's as it was at the start.
    """

    def __init__(self, folder: Path, replicas: int = 1, kind: str = "valkey", *options: str) -> None:
        self._sentinel_ports = [free_port() for _ in range(SENTINELS)]
        self.sentinels: list[Process] = []
        self._servers: dict[int, Process] = {}
        self._ports = [free_port() for _ in range(replicas + 1)]
        super().__init__(kind, folder, *options)

    def start(self) -> None:
        """Start all of it, once."""
        self.port, *replicas = self._ports
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._sentinel_ports)
        self.url = f"redis+sentinel://{hosts}/{SERVICE}/0"
        try:
            self.process = self._serve(self.port)
            until(lambda: _answers(self.port), START_S, self.process.tail)
            for port in replicas:
                self._serve(port, "--replicaof", f"127.0.0.1 {self.port}")
            if replicas:
                until(lambda: self._online_at(self.port) == len(replicas), START_S, self.process.tail)
            self.sentinels = [self._watch(port) for port in self._sentinel_ports]
            until(lambda: self._knows_all(len(replicas)), START_S, self._told)
        except BaseException:
            self.kill()
            raise

    # what the sentinels say

    def master_port(self) -> int:
        """The master's port as most sentinels name it now."""
        named = [port for one in self._sentinel_ports if (port := _named_by(one)) is not None]
        return max(named, key=named.count)

    def wait_for_failover(self, from_port: int, within_s: float = FAILOVER_S) -> float:
        """Wait until all sentinels name another master, which takes writes; after how many seconds it was."""

        def has_moved() -> bool:
            named = {_named_by(port) for port in self._sentinel_ports}
            return None not in named and from_port not in named and len(named) == 1 and _is_master(self.master_port())

        return until(has_moved, within_s, self._told)

    def wait_for_replica(self, within_s: float = FAILOVER_S) -> None:
        """Wait until the master has a replica that is up to date, and the sentinels know it: it may be lost then."""

        def has_replica() -> bool:
            return self._online_at(self.master_port()) > 0 and self._knows_all(1)

        until(has_replica, within_s, self._told)

    # what is done to it

    def kill_master(self) -> int:
        """SIGKILL; the port on which it was."""
        port = self.master_port()
        self._servers[port].kill()
        return port

    def hang_master(self) -> int:
        """SIGSTOP: it keeps its connections and says nothing; the port on which it is."""
        port = self.master_port()
        self._servers[port].signal(signal.SIGSTOP)
        return port

    def kill_voters(self) -> None:
        """Kill so many sentinels that no replica is chosen."""
        for sentinel in self.sentinels[1:]:
            sentinel.kill()

    def wake(self, port: int) -> None:
        """SIGCONT: it believes to be the master until the sentinels tell it otherwise."""
        self._servers[port].signal(signal.SIGCONT)

    def revive(self, port: int) -> None:
        """Start a server that was killed, empty, as a replica of the master."""
        self._serve(port, "--replicaof", f"127.0.0.1 {self.master_port()}")

    def hand_over(self) -> None:
        """Have a replica made the master, as an operator would."""

        def is_taken() -> bool:
            with suppress(redis.RedisError), _client(self._sentinel_ports[0]) as client:
                client.execute_command("SENTINEL", "FAILOVER", SERVICE)
                return True
            return False

        until(is_taken, FAILOVER_S, self._told)

    def restart_each(self) -> None:
        """Restart one server after the other, as for an upgrade: the master when another one has its place."""
        old = self.master_port()
        for port in (*(port for port in self._ports if port != old), old):
            if port == old:
                self.hand_over()
                self.wait_for_failover(old)
                self.wait_for_replica()
            self._servers[port].stop()
            self.revive(port)
            self.wait_for_replica()

    def client(self) -> redis.Redis:
        """A plain client at the server that is the master now; close it after use."""
        return _client(self.master_port() if self.sentinels else self.port)

    def kill(self) -> None:
        for process in [*self.sentinels, *self._servers.values()]:
            process.kill()

    def stop(self) -> None:
        self.kill()

    def _serve(self, port: int, *more: str) -> Process:
        argv = [*replicated_server(self.kind, port, self._folder), *self._options, *more]
        log = self._folder / f"{self.kind}-{port}.log"
        self._servers[port] = Process(f"{self.kind} {port}", argv, log)
        return self._servers[port]

    def _watch(self, port: int) -> Process:
        config = self._folder / f"sentinel-{port}.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {self._folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.port} {QUORUM}\n"
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {SERVICE} {FAILOVER_TIMEOUT_MS}\n"
            f"sentinel parallel-syncs {SERVICE} 8\n"
        )
        argv = [server_binary(self.kind), str(config), "--sentinel"]
        return Process(f"sentinel {port}", argv, self._folder / f"sentinel-{port}.log")

    def _knows_all(self, replicas: int) -> bool:
        """Whether every sentinel knows the others and so many replicas that are well."""
        for port in self._sentinel_ports:
            facts = _facts_from(port)
            if int(facts.get("num-other-sentinels", 0)) != SENTINELS - 1 or facts.get("flags") != "master":
                return False
            with _client(port) as client:
                known = client.execute_command("SENTINEL", "REPLICAS", SERVICE)
            flags = [_as_dict(one)["flags"] for one in known]
            if flags.count("slave") + flags.count("replica") < replicas:
                return False
        return True

    def _online_at(self, port: int) -> int:
        """How many replicas a server has that are up to date."""
        with suppress(redis.RedisError), _client(port) as client:
            facts = client.info("replication")
            slots = range(int(facts["connected_slaves"]))
            return sum(facts[f"slave{number}"]["state"] == "online" for number in slots)
        return 0

    def _told(self) -> str:
        return "\n".join(one.tail(1500) for one in [*self.sentinels, *self._servers.values()])


def _client(port: int) -> redis.Redis:
    return redis.Redis(
        port=port, decode_responses=True, protocol=2, socket_timeout=2, socket_connect_timeout=2, driver_info=None
    )


def _answers(port: int) -> bool:
    with suppress(redis.RedisError), _client(port) as client:
        return bool(client.ping())
    return False


def _is_master(port: int) -> bool:
    with suppress(redis.RedisError), _client(port) as client:
        return bool(client.info("replication")["role"] == "master")
    return False


def _named_by(sentinel: int) -> int | None:
    """The master's port as one sentinel says."""
    with suppress(redis.RedisError), _client(sentinel) as client:
        named = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(named[1]) if named else None
    return None


def _facts_from(sentinel: int) -> dict[str, str]:
    with suppress(redis.RedisError), _client(sentinel) as client:
        return _as_dict(client.execute_command("SENTINEL", "MASTER", SERVICE))
    return {}


def _as_dict(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
