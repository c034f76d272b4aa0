"""The words of the project as types: ids that cannot be mixed up, and the closed sets of states."""

from enum import StrEnum
from typing import NewType

RequestId = NewType("RequestId", str)
"""One client request for its whole life: 128 random bits as 32 hex digits."""
NodeId = NewType("NodeId", str)
"""A provider's name in the registry; the consumer name it claims jobs under."""
HubId = NewType("HubId", str)
"""One hub process, new at each start."""
KeyId = NewType("KeyId", str)
"""A client API key's name for machines: the first 16 hex digits of its secret's sha256."""
TokenId = NewType("TokenId", str)
"""The same of a provider token."""
ModelId = NewType("ModelId", str)
"""A model's name as clients write it."""


class Lane(StrEnum):
    """Which of a model's streams a job waits in; declared in the order in which providers look."""

    RETRY = "retry"
    INTERACTIVE = "interactive"
    BATCH = "batch"

    @property
    def urgency(self) -> int:
        """Its place in that order; 0 is the most urgent."""
        return [*Lane].index(self)


class AskedLane(StrEnum):
    """A lane that clients may ask for and a key may begin with: retries are the grid's own."""

    INTERACTIVE = Lane.INTERACTIVE.value
    BATCH = Lane.BATCH.value


class RequestStatus(StrEnum):
    """Where a request stands, as its hash shows it."""

    QUEUED = "queued"
    CLAIMED = "claimed"
    STREAMING = "streaming"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class NodeState(StrEnum):
    """What a node does now: `busy` has no free slot, `paused` has a reason not to take work."""

    IDLE = "idle"
    BUSY = "busy"
    DRAINING = "draining"
    PAUSED = "paused"


class DirectRefusal(StrEnum):
    """Why a direct call's HMAC is not accepted; the code that clients hear."""

    DIRECT_KEYS_NOT_SET = "direct_keys_not_set"
    MALFORMED = "malformed"
    UNKNOWN_KEY = "unknown_key"
    WRONG = "wrong"
    EXPIRED = "expired"
    REPLAYED = "replayed"
