"""How fast the queues of models have moved lately, as this hub saw it."""

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from common.types import ModelId

LATELY_S = 60.0


class _Look(NamedTuple):
    at_s: float
    over_s: float
    places: int


class Pace:
    """Estimates from places that waiting requests moved up how long the others wait still.

    Args:
        now: seconds of any clock that runs forward.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._looks: dict[ModelId, deque[_Look]] = {}

    def moved(self, model: ModelId, places: int, over_s: float) -> None:
        """Within these seconds those who wait for a model moved up so many places; 0 counts too."""
        looks = self._looks.setdefault(model, deque())
        looks.append(_Look(self._now(), over_s, places))
        self._forget(model)

    def step_s(self, model: ModelId) -> float | None:
        """How long one who waits for a model takes to move up by one place; None where nothing has moved lately."""
        self._forget(model)
        looks = self._looks.get(model, ())
        places = sum(look.places for look in looks)
        return None if places == 0 else sum(look.over_s for look in looks) / places

    def _forget(self, model: ModelId) -> None:
        looks = self._looks.get(model)
        while looks and looks[0].at_s < self._now() - LATELY_S:
            looks.popleft()
        if not looks:
            self._looks.pop(model, None)
