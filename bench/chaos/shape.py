"""What the grid of a run is made of."""

from dataclasses import dataclass, field
from enum import StrEnum


class BrokerKind(StrEnum):
    """What a broker that was killed still knows."""

    FORGETFUL = "forgetful"
    """Nothing: it keeps nothing on disk."""
    APPENDONLY = "appendonly"
    """What stands in its file, written to disk every second."""
    SENTINEL = "sentinel"
    """What its replica had heard, which the sentinels make the master."""
    CLUSTER = "cluster"
    """What the replica had heard of the one of three masters that was killed."""

    @property
    def has_replicas(self) -> bool:
        """Whether another server takes over from one that is killed."""
        return self in (BrokerKind.SENTINEL, BrokerKind.CLUSTER)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a run's grid is made of."""

    heartbeat_s: float = 2.0
    broker: BrokerKind = BrokerKind.FORGETFUL
    slots: int = 16
    """Of each provider; two of the three must be able to hold all streams."""
    env: dict[str, str] = field(default_factory=dict)
    """More settings of hubs and providers."""
    is_keyed: bool = False
    """Whether clients show a key, whose limits are so wide that only their books are of interest."""
    has_front: bool = False
    """Whether clients ask a `ghub connect` instead of the hubs."""
    is_afresh: bool = True
    """Whether hubs and providers start as a user's do, each of them a second later."""
