"""The grid under test: real processes that can be killed, stopped and started again, each at its old place."""

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from subprocess import TimeoutExpired

import redis

from bench.chaos.client import MODEL
from bench.chaos.shape import BrokerKind, Shape
from common.keys import Keys
from common.types import HubId
from tests.doubles.process import EngineProcess, EngineProcessError
from tests.support.brokers import BrokerProcess
from tests.support.client_keys import AUTH, TestKey
from tests.support.client_keys import wait_for_model as wait_for_keyed_model
from tests.support.cluster import ClusterBroker
from tests.support.grid import Grid
from tests.support.ports import free_port
from tests.support.processes import Process, python, until
from tests.support.sentinel import SentinelBroker

ENGINE_KINDS = ("llamacpp", "vllm", "llamacpp")
"""Two kinds, so that one goes on with what another began."""
PROVIDERS = len(ENGINE_KINDS)
HUBS = 2
STOP_WITHIN_S = 60.0
"""For what drains; a process that takes longer is killed, and its clients notice."""
ANSWER_KEEP_S = 10
"""How long answers that can be resumed stay after their end: as short as may be, since a run waits for it."""
SETTINGS = {"GHUB_HUB_REPLY_LINGER_S": "1", "GHUB_HUB_ANSWER_KEEP_S": str(ANSWER_KEEP_S), "GHUB_LOG_FORMAT": "json"}
KEYS = Keys()
LIMITS = {"rpm": 10**6, "tpm": 10**9, "concurrency": 10**4}


class Site:
    """Three engines, each with a provider, two hubs, one broker, and a front if there is to be one."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self._shape = shape
        self._folder = folder
        self._sentinel = SentinelBroker(folder) if shape.broker is BrokerKind.SENTINEL else None
        self._cluster = ClusterBroker(folder) if shape.broker is BrokerKind.CLUSTER else None
        has_file = shape.broker is BrokerKind.APPENDONLY
        options = ("--appendonly", "yes", "--appendfsync", "everysec") if has_file else ()
        self.broker = self._sentinel or self._cluster or BrokerProcess("valkey", folder, *options)
        self._dead_port = 0
        self.grid = Grid(self.broker, folder, afresh=shape.is_afresh)
        self.engines: list[EngineProcess] = []
        self.hub_urls: list[str] = []
        self._front: Process | None = None
        self._front_url = ""
        self._killed: list[tuple[str, float]] = []
        self._broker_urls: dict[int, str] = {}
        self.headers: dict[str, str] = {}
        """What every client sends: its key, where it needs one."""

    def open(self, broker_urls: dict[int, str] | None = None) -> None:
        """Start everything and wait until it works; some providers may reach the broker by an address of their own."""
        self._broker_urls = broker_urls or {}
        for kind in ENGINE_KINDS:
            self.engines.append(self.grid.engine(MODEL, kind=kind, slots=self._shape.slots))
        self.hub_urls += [self.grid.hub(wait=False, **self._env()) for _ in range(HUBS)]
        for nth in range(PROVIDERS):
            self.start_provider(nth)
        for nth in range(PROVIDERS):
            self.grid.wait_for_node(_node(nth))
        if self._shape.is_keyed:
            with self.grid.redis() as client:
                self.headers = TestKey(client, **LIMITS).headers
        wait_for_model = wait_for_keyed_model if self._shape.is_keyed else Grid.wait_for_model
        for url in self.hub_urls:
            self.grid.wait_for_hub(url)
            wait_for_model(self.grid, url, MODEL)
        if self._shape.has_front:
            self._start_front()

    def close(self) -> None:
        """End everything."""
        if self._front is not None:
            self._front.kill()
        self.grid.close()
        self.broker.kill()

    @property
    def urls(self) -> list[str]:
        """Where clients ask."""
        return [self._front_url] if self._front_url else self.hub_urls

    @property
    def has_front(self) -> bool:
        """Whether clients ask a front, so that no hub is known to them."""
        return self._shape.has_front

    # Providers, hubs, engines, the broker

    def start_provider(self, nth: int) -> None:
        """Start a provider, without waiting for it."""
        env = self._env() | {"GHUB_PROVIDER_SLOTS": str(self._shape.slots)}
        env |= {"GHUB_PROVIDER_ENGINE__PROBE_INTERVAL_S": "1"}
        if url := self._broker_urls.get(nth):
            env["GHUB_REDIS_URL"] = url
        self.grid.provider(self.engines[nth].url, _node(nth), wait=False, **env)

    def kill_provider(self, nth: int) -> None:
        self.provider(nth).kill()

    def provider(self, nth: int) -> Process:
        return self.grid.providers[_node(nth)]

    def start_hub(self, nth: int) -> None:
        """Start a hub again where its former process served, without waiting for it."""
        self.grid.hub(wait=False, url=self.hub_urls[nth], **self._env())

    def kill_hub(self, nth: int) -> None:
        self._killed.append((self.hub_urls[nth], time.monotonic()))
        self.hub(nth).kill()

    def hub(self, nth: int) -> Process:
        return self.grid.hubs[self.hub_urls[nth]]

    def was_killed(self, url: str, since_s: float) -> bool:
        """Whether this hub was killed since then."""
        return any(killed == url and at_s >= since_s for killed, at_s in self._killed)

    def start_engine(self, nth: int) -> None:
        """Start a killed engine again."""
        self.engines[nth].start()

    def start_broker(self) -> None:
        """Start a killed broker again, with what its file still holds, or empty; a former master as a replica."""
        group = self._sentinel or self._cluster
        if group is None:
            self.broker.start()
            return
        group.wait_for_failover(self._dead_port)
        group.revive(self._dead_port)

    def restart_hub(self, nth: int) -> None:
        """Stop a hub in order and start it again; it takes requests when this returns."""
        self.hub(nth).stop(STOP_WITHIN_S)
        self.start_hub(nth)
        self.grid.wait_for_hub(self.hub_urls[nth])

    def restart_provider(self, nth: int) -> None:
        """Stop a provider in order, which lets it finish or hand over what it runs, and start it again."""
        self.provider(nth).stop(STOP_WITHIN_S)
        self.start_provider(nth)
        self.grid.wait_for_node(_node(nth))

    def restart_brokers(self) -> None:
        """Restart each server of a broker that has several, one after the other."""
        group = self._sentinel or self._cluster
        assert group is not None
        group.restart_each()

    def raise_engines(self) -> int:
        """Start each engine again that ended by itself; how many did."""
        ended = 0
        for engine in self.engines:
            with suppress(TimeoutExpired, EngineProcessError):
                engine.wait_exit(0)
                engine.start()
                ended += 1
        return ended

    def log_size_bytes(self) -> int:
        """How long the broker's file of commands is."""
        return self._log().stat().st_size

    def kill_broker(self, nth: int, keep_bytes: int | None = None) -> None:
        """Kill the broker; of its file of commands only so much is left, as after a power cut.

        Of a cluster it is the master of the jobs (0), or of a hub's replies (1).
        """
        if self._sentinel is not None:
            self._dead_port = self._sentinel.kill_master()
            return
        if self._cluster is not None:
            self._dead_port = self._cluster.kill_master(self._key(nth))
            return
        self.broker.kill()
        if keep_bytes is not None:
            os.truncate(self._log(), keep_bytes)

    def move_slot(self, nth: int) -> None:
        """Give the slot of the jobs (0), or of a hub's replies (1), to another master of the cluster."""
        assert self._cluster is not None
        self._cluster.move_slot(self._key(nth))

    def flush_broker(self) -> None:
        """Take all its keys from a broker that goes on."""
        with self.grid.redis() as client:
            client.flushall()

    # Looking

    def running_on(self, nth: int) -> set[str]:
        """Ids of the requests that a provider runs, as the requests' own hashes say."""
        names, facts = [], []
        with suppress(redis.RedisError), self.grid.redis() as client:  # a broker that is down tells nothing
            names = [str(name) for name in client.scan_iter("ghub:request:*", count=1000)]
            pipe = client.pipeline(transaction=False)
            for name in names:
                pipe.hmget(name, "node", "status")
            facts = pipe.execute()
        return {
            name.rpartition(":")[2]
            for name, (node, status) in zip(names, facts, strict=False)
            if node == _node(nth) and status in ("claimed", "streaming")
        }

    def open_generations(self) -> int:
        """How many generations all engines have open; engines that are down have none."""
        return sum(self._open(engine) for engine in self.engines)

    def started_generations(self) -> int:
        """How many generations the engines have begun since they were started."""
        return sum(int(engine.state()["started"]) for engine in self.engines)

    def is_at_rest(self) -> bool:
        """Whether every provider is there with all its slots free, and every hub works."""
        with self.grid.redis() as client:
            states = {self.grid.node(client, _node(nth)).get("state") for nth in range(PROVIDERS)}
        return states == {"idle"} and all(self.grid.status(url, "/health/ready") == 200 for url in self.hub_urls)

    def nodes(self, client: redis.Redis) -> dict[str, list[str]]:
        """What each provider says it runs."""
        return {
            _node(nth): json.loads(self.grid.node(client, _node(nth)).get("requests", '["gone"]'))
            for nth in range(PROVIDERS)
        }

    def _open(self, engine: EngineProcess) -> int:
        with suppress(OSError):
            return int(engine.state()["open"])
        return 0

    def _key(self, nth: int) -> str:
        """A key in the slot of the jobs, or of the replies of one hub."""
        if nth == 0:
            return KEYS.lanes
        with self.grid.redis() as client:
            hub, *_ = client.zrange(KEYS.hubs, 0, -1)
        return KEYS.doorbell(HubId(hub))

    def _start_front(self) -> None:
        port = free_port()
        self._front_url = f"http://127.0.0.1:{port}"
        hubs = [word for url in self.hub_urls for word in ("--hub", url)]
        argv = python("-m", "ghub", "connect", *hubs, "--port", str(port))
        self._front = Process("connect", argv, self._folder / "connect.log", {"GHUB_LOG_FORMAT": "json"})
        until(lambda: self.grid.status(self._front_url, "/health/ready") == 200, 30, self._front.tail)

    def _log(self) -> Path:
        return max(self._folder.glob("appendonlydir/*.incr.aof"))

    def _env(self) -> dict[str, str]:
        auth = AUTH if self._shape.is_keyed else {}
        return {"GHUB_HEARTBEAT_S": str(self._shape.heartbeat_s), **SETTINGS, **auth, **self._shape.env}


def send_signal(pid: int, number: signal.Signals) -> None:
    """Signal a process, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _node(nth: int) -> str:
    return f"node-{nth}"
