"""What a broker is, and what that may cost, for people who look whether it will do."""

from collections.abc import Iterator
from dataclasses import dataclass

from common.broker import Broker, broker_errors
from common.errors import BrokerRefused

_SAVE, _MIN_REPLICAS = "save", "min-replicas-to-write"


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
    """How many follow it now."""
    needed_replicas: int | None = None
    """Its `min-replicas-to-write`."""
    has_sentinels: bool = False
    """Whether sentinels may make another server the master."""

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
    if facts.eviction not in ("", "noeviction"):
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
    if facts.has_sentinels and facts.needed_replicas == 0:
        yield Concern(
            "takes writes that no replica has",
            "cut off from its sentinels it would go on, and lose them: set min-replicas-to-write 1",
        )


async def read_facts(broker: Broker) -> BrokerFacts:
    """Ask a broker for its version, and for what becomes of what it holds.

    Raises:
        BrokerError: it does not answer, or refuses even a ping.
    """
    with broker_errors():
        await broker.commands.ping()
    server = await _info(broker, "server")
    memory = await _info(broker, "memory")
    log = (await _info(broker, "persistence")).get("aof_enabled")
    replicas = (await _info(broker, "replication")).get("connected_slaves")
    needed = await _setting(broker, _MIN_REPLICAS)
    product = "Valkey" if "valkey_version" in server else "Redis"
    return BrokerFacts(
        product,
        version=server.get(f"{product.lower()}_version", ""),
        run=server.get("run_id", ""),
        eviction=memory.get("maxmemory_policy", ""),
        has_log=None if log is None else log == "1",
        save_points=await _setting(broker, _SAVE),
        replicas=None if replicas is None else int(replicas),
        needed_replicas=None if needed is None else int(needed),
        has_sentinels=broker.sentinels is not None,
    )


async def _info(broker: Broker, section: str) -> dict[str, str]:
    """A section of INFO; empty if this user may not see it."""
    try:
        with broker_errors():
            return {str(name): str(value) for name, value in (await broker.commands.info(section)).items()}
    except BrokerRefused:
        return {}


async def _setting(broker: Broker, name: str) -> str | None:
    """A setting as CONFIG GET tells it; None if this user may not see it, or the broker lets nobody."""
    try:
        with broker_errors():
            found = await broker.commands.config_get(name)
    except BrokerRefused:
        return None
    return found.get(name)
