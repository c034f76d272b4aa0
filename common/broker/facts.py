"""What a broker is, and what that may cost, for people who look whether it will do."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from redis import exceptions as rx

from common.broker.broker import Broker
from common.broker.errors import broker_errors

_SAVE, _MIN_REPLICAS, _NO_EVICTION = "save", "min-replicas-to-write", "noeviction"


@dataclass(frozen=True, slots=True)
class BrokerFacts:
    """A broker that answers; what it doesn't tell is empty or None: managed ones and scoped users tell little."""

    product: str
    """`Redis` or `Valkey`."""
    version: str = ""
    run: str = ""
    """Names this run of this server: another one has another."""
    eviction: str = ""
    """Its `maxmemory-policy`."""
    has_log: bool | None = None
    """Whether it writes all that it is told to an append-only file."""
    save_points: str | None = None
    """When it saves all that it holds; empty for never."""
    replicas: int | None = None
    """How many follow it now; of a cluster, its loneliest master."""
    needed_replicas: int | None = None
    """Its `min-replicas-to-write`."""
    has_sentinels: bool = False
    """Whether sentinels may make another server the master."""
    is_cluster: bool = False

    @property
    def keeps_nothing(self) -> bool:
        """Whether it is sure that a restart empties it."""
        return self.has_log is False and self.save_points == ""

    @property
    def untold(self) -> tuple[str, ...]:
        """The settings that could not be read, by their names at the broker."""
        told: dict[str, object] = {
            "maxmemory-policy": self.eviction or None,
            "appendonly": self.has_log,
            _SAVE: True if self.has_log else self.save_points,
            _MIN_REPLICAS: self.needed_replicas if self.has_sentinels else True,
        }
        return tuple(name for name, value in told.items() if value is None)


@dataclass(frozen=True, slots=True)
class Concern:
    """One setting of a broker with which something can be lost."""

    text: str
    """What, as the end of a sentence about the broker."""
    advice: str
    """What to set."""


def concerns(facts: BrokerFacts) -> Iterator[Concern]:
    """What can be lost with this broker as it is set; nothing is said of what it doesn't tell."""
    if facts.eviction not in ("", _NO_EVICTION):
        yield Concern(
            f"evicts keys when its memory is full ({facts.eviction})",
            "answers would vanish: set maxmemory-policy noeviction",
        )
    if facts.keeps_nothing:
        yield Concern(
            "keeps nothing on disk",
            "a restart loses client keys, provider tokens, usage and dead letters: set appendonly yes",
        )
    if facts.has_sentinels and facts.replicas == 0:
        yield Concern("has no replica", "nobody can take over from it: start one with replicaof")
    if facts.is_cluster and facts.replicas == 0:
        yield Concern("has a master without a replica", "nobody can take over its slots: give it one")
    if facts.has_sentinels and facts.needed_replicas == 0:
        yield Concern(
            "takes writes that no replica has",
            "cut off from its sentinels it would go on, and lose them: set min-replicas-to-write 1",
        )


async def read_facts(broker: Broker) -> BrokerFacts:
    """Ask a broker for its version, and for what becomes of what it holds; of a cluster, what is worst at its servers.

    Raises:
        BrokerError: it does not answer, or refuses even a ping.
    """
    with broker_errors():
        await broker.commands.ping()
    servers = await _info(broker, "server")
    evictions = {one["maxmemory_policy"] for one in await _info(broker, "memory") if "maxmemory_policy" in one}
    logs = [one["aof_enabled"] == "1" for one in await _info(broker, "persistence") if "aof_enabled" in one]
    masters = [one for one in await _info(broker, "replication") if one.get("role") == "master"]
    replicas = [int(one["connected_slaves"]) for one in masters if "connected_slaves" in one]
    product = "Valkey" if any("valkey_version" in one for one in servers) else "Redis"
    versions = {one.get(f"{product.lower()}_version", "") for one in servers}
    return BrokerFacts(
        product,
        version=" and ".join(sorted(versions)),
        run=" ".join(sorted(one.get("run_id", "") for one in servers)),
        eviction=min(evictions - {_NO_EVICTION} or evictions, default=""),
        has_log=all(logs) if logs else None,
        save_points=min(await _setting(broker, _SAVE), default=None),
        replicas=min(replicas, default=None),
        needed_replicas=min(map(int, await _setting(broker, _MIN_REPLICAS)), default=None),
        has_sentinels=broker.sentinels is not None,
        is_cluster=broker.cluster is not None,
    )


async def _info(broker: Broker, section: str) -> list[dict[str, str]]:
    """A section of INFO, of each server that lets this user see it."""
    found = await _told(broker, "INFO", section)
    return [{str(name): str(value) for name, value in one.items()} for one in found]


async def _setting(broker: Broker, name: str) -> list[str]:
    """A setting as CONFIG GET tells it, of each server that lets this user see it."""
    return [str(one[name]) for one in await _told(broker, "CONFIG GET", name) if name in one]


async def _told(broker: Broker, command: str, what: str) -> list[dict[str, Any]]:
    """What the servers say that don't refuse, as redis-py reads it."""
    read: Any = broker.commands.response_callbacks[command]
    with broker_errors():
        answers = await broker.everywhere(*command.split(), what)
    return [read(answer) for answer in answers if not isinstance(answer, rx.ResponseError)]
