"""What is asked of every system."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """One kind of load at one size.

    Attributes:
        kind: `short`, `burst` or `paced`.
        streams: at once.
        events: of each answer.
        pace_ms: between two events; 0: as fast as they come.
        is_stream: whether answers are streamed.
        for_s: no request begins later; 0: each connection asks once.
    """

    kind: str
    streams: int
    events: int
    pace_ms: float
    is_stream: bool
    for_s: float

    @property
    def name(self) -> str:
        """Of kind and size, e.g. `burst-64`."""
        return f"{self.kind}-{self.streams}"

    @property
    def nominal_s(self) -> float:
        """How long a paced answer takes at the engine."""
        return (self.events - 1) * self.pace_ms / 1000


def _short(streams: int) -> Workload:
    return Workload("short", streams, 1, 0, is_stream=False, for_s=4)


def _burst(streams: int) -> Workload:
    return Workload("burst", streams, 128, 0, is_stream=True, for_s=4)


def _paced(streams: int) -> Workload:
    return Workload("paced", streams, 100, 20, is_stream=True, for_s=0)


ALL = (
    *(_short(streams) for streams in (1, 16, 64)),
    *(_burst(streams) for streams in (1, 16, 64)),
    *(_paced(streams) for streams in (50, 200, 500, 1000)),
)
"""W1: short calls that are not streamed. W2: 128 events without a pause. W3: 100 events, 20 ms apart."""
BY_NAME = {one.name: one for one in ALL}
