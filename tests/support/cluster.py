"""A broker that is a cluster: masters and a replica of each, all real and on loopback."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis.crc import key_slot

from common.keys import Keys
from tests.support.brokers import BrokerProcess, replicated_server
from tests.support.ports import free_port
from tests.support.processes import Process, until

NODE_TIMEOUT_MS = 1000
"""How long a server is silent before the others hold it for dead."""
START_S, FAILOVER_S = 30.0, 30.0
JOBS = Keys().lanes


class ClusterBroker(BrokerProcess):
    """Several masters that share the slots; each may have a replica that takes over from it.

    Servers keep nothing on disk but their cluster's table, unless `options` say otherwise.
    """

    def __init__(self, folder: Path, masters: int = 3, replicas: int = 1, kind: str = "valkey", *options: str) -> None:
        self._servers: dict[int, Process] = {}
        self._masters = masters
        self._ports = [free_port() for _ in range(masters * (1 + replicas))]
        super().__init__(kind, folder, *options)

    def start(self) -> None:
        """Start all of it, once."""
        masters, replicas = self._ports[: self._masters], self._ports[self._masters :]
        self.port = masters[0]
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in masters)
        try:
            buses = {port: self._serve(port) for port in self._ports}
            self.process = self._servers[self.port]
            for port in self._ports:
                until(lambda port=port: _answers(port), START_S, self._told)  # type: ignore[misc]
            for number, port in enumerate(masters):
                first, last = (SLOTS * at // self._masters for at in (number, number + 1))
                _say(port, "CLUSTER", "ADDSLOTSRANGE", first, last - 1)
            for port in self._ports:
                _say(self.port, "CLUSTER", "MEET", "127.0.0.1", port, buses[port])
            until(lambda: all(len(_nodes(port)) == len(self._ports) for port in self._ports), START_S, self._told)
            for number, port in enumerate(replicas):
                _say(port, "CLUSTER", "REPLICATE", self._id(masters[number % self._masters]))
            until(self.is_well, START_S, self._told)
            until(lambda: all(_named(port) == {*self._ports} for port in self._ports), START_S, self._told)
        except BaseException:
            self.kill()
            raise

    # what it says of itself

    def is_well(self) -> bool:
        """Whether all servers that run agree that every slot has a master, and every replica is up to date."""
        try:
            running = [port for port, process in self._servers.items() if process.is_running]
            views = [frozenset((one["port"], "master" in one["flags"]) for one in _nodes(port)) for port in running]
            return len(set(views)) == 1 and all(_is_well(port) for port in running)
        except redis.RedisError:
            return False

    def master_of(self, key: str) -> int:
        """The port of the master that keeps a key."""
        return self._master_of(key_slot(key.encode()))

    def master_port(self) -> int:
        """The port of the master that keeps the jobs."""
        return self.master_of(JOBS)

    def replicas_of(self, master: int) -> list[int]:
        """The ports of a master's replicas that are there."""
        name = self._id(master)
        return [int(one["port"]) for one in self._view() if one["master"] == name and "fail" not in one["flags"]]

    def masters(self) -> list[int]:
        """The ports of the masters that have slots."""
        return sorted({one["port"] for one in self._view() if one["slots"] and "fail" not in one["flags"]})

    def wait_for_failover(self, from_port: int, within_s: float = FAILOVER_S) -> float:
        """Wait until all servers that run know another master in its place; after how many seconds it was."""

        def has_moved() -> bool:
            with suppress(redis.RedisError):
                others = [one for one, process in self._servers.items() if one != from_port and process.is_running]
                return all(_is_complete(port) and from_port not in _with_slots(port) for port in others)
            return False

        return until(has_moved, within_s, self._told)

    # what is done to it

    def kill_master(self, key: str = JOBS) -> int:
        """SIGKILL the master of a key; the port on which it was."""
        port = self.master_of(key)
        self._servers[port].kill()
        return port

    def hang_master(self, key: str = JOBS) -> int:
        """SIGSTOP: it keeps its connections and says nothing; the port on which it is."""
        port = self.master_of(key)
        self._servers[port].signal(signal.SIGSTOP)
        return port

    def kill_voters(self) -> None:
        """Kill so many other masters that no replica is chosen: only masters vote."""
        for port in self.masters():
            if port != self.master_port():
                self._servers[port].kill()

    def kill_replica(self, key: str = JOBS) -> int:
        """SIGKILL the replica of the master of a key; the port of the master."""
        master = self.master_of(key)
        (replica,) = self.replicas_of(master)
        self._servers[replica].kill()
        return master

    def wake(self, port: int) -> None:
        """SIGCONT: it believes to be a master until the others tell it otherwise."""
        self._servers[port].signal(signal.SIGCONT)

    def revive(self, port: int) -> None:
        """Start a server that is down, empty: the others know it, and make it a replica if it was replaced."""
        self._serve(port)
        until(self.is_well, FAILOVER_S, self._told)

    def move_slot(self, key: str, *, while_half_moved: Callable[[], object] = lambda: None) -> tuple[int, int]:
        """Move the slot of a key from its master to another one, key by key as `redis-cli --cluster reshard` does.

        Args:
            key: whose slot it is.
            while_half_moved: called when half of its keys are there.
        """
        slot = key_slot(key.encode())
        source = self._keeper_of(slot)
        target = next(port for port in self.masters() if port != source)
        _say(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self._id(source))
        _say(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self._id(target))
        is_half_moved = False
        while keys := _say(source, "CLUSTER", "GETKEYSINSLOT", slot, 10):
            _say(source, "MIGRATE", "127.0.0.1", target, "", 0, 5000, "KEYS", *keys)
            if not is_half_moved:
                is_half_moved = True
                while_half_moved()
        for port in (target, source, *(one for one in self.masters() if one not in (source, target))):
            _say(port, "CLUSTER", "SETSLOT", slot, "NODE", self._id(target))
        return source, target

    def hand_over(self, key: str) -> int:
        """Have the replica of a key's master take its place, as an operator would; the port of the new one."""
        return self._hand_over_from(self.master_of(key))

    def restart_each(self) -> None:
        """Restart one server after the other, as for an upgrade: each master when its replica has its place."""
        masters = self.masters()
        for port in (*(port for port in self._ports if port not in masters), *masters):
            if port in masters:
                self._hand_over_from(port)
                until(self.is_well, FAILOVER_S, self._told)
            self._servers[port].stop()
            self.revive(port)

    def client(self) -> Any:
        """A plain client for looking at keys wherever they are; close it after use."""
        nodes = [ClusterNode("127.0.0.1", port) for port, process in self._servers.items() if process.is_running]
        return RedisCluster(startup_nodes=nodes, decode_responses=True, protocol=2, socket_timeout=2, driver_info=None)

    def kill(self) -> None:
        for process in self._servers.values():
            process.kill()

    def stop(self) -> None:
        self.kill()

    def _hand_over_from(self, master: int) -> int:
        replica, *_ = self.replicas_of(master)
        _say(replica, "CLUSTER", "FAILOVER")
        until(lambda: replica in self.masters() and master not in self.masters(), FAILOVER_S, self._told)
        return replica

    def _serve(self, port: int) -> int:
        """Start one server; the port of its bus."""
        bus = free_port()
        argv = replicated_server(self.kind, port, self._folder)
        argv += ["--cluster-enabled", "yes", "--cluster-config-file", f"nodes-{port}.conf", "--cluster-port", str(bus)]
        argv += ["--cluster-node-timeout", str(NODE_TIMEOUT_MS), *self._options]
        self._servers[port] = Process(f"{self.kind} {port}", argv, self._folder / f"{self.kind}-{port}.log")
        return bus

    def _master_of(self, slot: int) -> int:
        return next(
            int(one["port"])
            for one in self._view()
            if "fail" not in one["flags"] and any(first <= slot <= last for first, last in one["slots"])
        )

    def _keeper_of(self, slot: int) -> int:
        """The master of a slot by its own word: the others may not have heard yet of a slot that has just moved."""
        for port in self.masters():
            own = next(one for one in _nodes(port) if "myself" in one["flags"])
            if any(first <= slot <= last for first, last in own["slots"]):
                return port
        raise AssertionError(f"no master says that it keeps slot {slot}")

    def _view(self) -> list[dict[str, Any]]:
        """The servers as one that answers sees them."""
        for port, process in self._servers.items():
            if process.is_running:
                with suppress(redis.RedisError):
                    return _nodes(port)
        raise AssertionError("no server of the cluster answers")

    def _id(self, port: int) -> str:
        return str(next(one["id"] for one in _nodes(port) if "myself" in one["flags"]))

    def _told(self) -> str:
        return "\n".join(one.tail(1000) for one in self._servers.values())


@contextmanager
def _client(port: int) -> Iterator[redis.Redis]:
    with redis.Redis(
        port=port, decode_responses=True, protocol=2, socket_timeout=2, socket_connect_timeout=2, driver_info=None
    ) as client:
        yield client


def _say(port: int, *command: Any) -> Any:
    with _client(port) as client:
        client.response_callbacks.clear()
        return client.execute_command(*command)


def _answers(port: int) -> bool:
    with suppress(redis.RedisError):
        return bool(_say(port, "PING"))
    return False


def _nodes(port: int) -> list[dict[str, Any]]:
    """The servers as one of them sees them."""
    found = []
    for line in _say(port, "CLUSTER", "NODES").splitlines():
        name, address, flags, master, _, _, _, _, *slots = line.split()
        ranges = [part.partition("-") for part in slots if not part.startswith("[")]
        found.append(
            {
                "id": name,
                "port": int(address.partition("@")[0].rpartition(":")[2]),
                "flags": flags.split(","),
                "master": master,
                "slots": [(int(first), int(last or first)) for first, _, last in ranges],
            }
        )
    return found


def _named(port: int) -> set[int]:
    """Whom a server names to clients: replicas only once it has heard that they follow."""
    return {server[1] for _, _, *servers in _say(port, "CLUSTER", "SLOTS") for server in servers}


def _with_slots(port: int) -> set[int]:
    return {one["port"] for one in _nodes(port) if one["slots"] and "fail" not in one["flags"]}


def _is_complete(port: int) -> bool:
    """Whether a server sees a living master for each slot."""
    return (
        "cluster_state:ok" in _say(port, "CLUSTER", "INFO")
        and sum(last - first + 1 for one in _nodes(port) if "fail" not in one["flags"] for first, last in one["slots"])
        == SLOTS
    )


def _is_well(port: int) -> bool:
    if not _is_complete(port):
        return False
    with _client(port) as client:
        facts = client.info("replication")
    return facts["role"] == "master" or facts["master_link_status"] == "up"
