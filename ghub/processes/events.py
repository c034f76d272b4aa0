"""What a supervisor tells about its parts."""

from dataclasses import dataclass, field

from ghub.processes.child import Part


@dataclass(frozen=True, slots=True)
class Started:
    """A process of this part runs."""

    part: Part
    pid: int


@dataclass(frozen=True, slots=True)
class Healthy:
    """The part's probe says yes for the first time in this process's life."""

    part: Part


@dataclass(frozen=True, slots=True)
class Died:
    """The part ended without being asked to."""

    part: Part
    why: str
    last_lines: list[str] = field(default_factory=list)
    restart_in_s: float | None = None
    """None: it is not started again."""


@dataclass(frozen=True, slots=True)
class Killed:
    """The part did not end in time when asked to, and was killed."""

    part: Part


Event = Started | Healthy | Died | Killed
