"""From readings to a decision: the GPU is idle, busy with others' work, or it is unknown.

Two errors cost differently. Closing late disturbs the owner for a fraction of a second; opening too early, in a pause
of the owner's work, disturbs him again and again and throws answers away. So the two decisions look at different
things: closing at the last few readings as they are (all above the threshold: one peak is no work), opening at the
worst reading of the whole waiting time. An average would do neither well: after hours of rest it hides work for many
readings, and after work it opens by the average's decay rather than after a rest that was really seen.
"""

from collections import deque
from enum import StrEnum

from provider.settings import GateSettings, UnknownPolicy

UNKNOWN_AFTER_SAMPLES = 3
"""So many failed readings in a row undo what was known. One is a hiccup of the driver."""


class Load(StrEnum):
    """What others do with the GPU."""

    IDLE = "idle"
    BUSY = "busy"
    UNKNOWN = "unknown"


class LoadPolicy:
    """Decides after each reading. It knows no clock: time in seconds comes with the readings and never goes back."""

    def __init__(self, settings: GateSettings) -> None:
        self._threshold_pct = settings.threshold_pct
        self._release_pct = settings.threshold_pct - settings.hysteresis_pct
        self._idle_after_s = settings.idle_after_s
        self._recent: deque[tuple[float, float]] = deque(maxlen=settings.busy_after_samples)
        self._low_since_s: float | None = None
        self._failures = 0
        self._load = Load.UNKNOWN
        self._busy_since_s: float | None = None

    @property
    def load(self) -> Load:
        """The decision that stands."""
        return self._load

    @property
    def busy_since_s(self) -> float | None:
        """When the first of the readings came that made it busy; None: it isn't."""
        return self._busy_since_s

    def update(self, now_s: float, foreign_pct: float | None, *, is_working: bool) -> Load:
        """Take a reading into account.

        Args:
            now_s: When it was made.
            foreign_pct: Utilisation by others; None: it cannot be told.
            is_working: Whether our own jobs run. If so, None only says that shares can't be told apart, which leaves
                the decision as it was; if not, None is a failed reading.

        Returns:
            The decision that stands now.
        """
        if foreign_pct is None:
            self._miss(is_working=is_working)
            return self._load
        self._failures = 0
        self._recent.append((now_s, foreign_pct))
        # Nothing was decided yet that could flap, so there the plain threshold holds: a load that always stays just
        # below it would else remain undecided for ever.
        low_pct = self._threshold_pct if self._load is Load.UNKNOWN else self._release_pct
        if foreign_pct > low_pct:
            self._low_since_s = None
        elif self._low_since_s is None:
            self._low_since_s = now_s
        is_full = len(self._recent) == self._recent.maxlen
        if is_full and all(pct > self._threshold_pct for _, pct in self._recent):
            self._close()
        elif self._low_since_s is not None and now_s - self._low_since_s >= self._idle_after_s:
            self._load, self._busy_since_s = Load.IDLE, None
        return self._load

    def _miss(self, *, is_working: bool) -> None:
        # What is "in a row" or "all the time" must have been seen: a gap begins both anew.
        self._recent.clear()
        self._low_since_s = None
        if is_working:
            self._failures = 0
            return
        self._failures += 1
        if self._failures >= UNKNOWN_AFTER_SAMPLES:
            self._load, self._busy_since_s = Load.UNKNOWN, None

    def _close(self) -> None:
        if self._load is not Load.BUSY:
            self._load = Load.BUSY
            self._busy_since_s = self._recent[0][0]


def resolve_unknown(policy: UnknownPolicy | None, *, has_gpu: bool) -> UnknownPolicy:
    """What follows from an unknown load: what is set, else by whether there is an NVIDIA GPU.

    Where there is one that doesn't tell, an owner may be using it unseen, so the engine's word on free slots must do.
    Where there is none (CPU, AMD, Apple), nothing will ever tell, and a provider that never works is no use.
    """
    if policy is not None:
        return policy
    return UnknownPolicy.SLOTS_ONLY if has_gpu else UnknownPolicy.ASSUME_IDLE
