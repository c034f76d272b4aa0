"""Says each thing that goes wrong once, not in every round."""

import structlog

log = structlog.get_logger()

MOST_TOLD = 1000
"""So many different complaints are remembered; past them it begins anew."""


class Complaints:
    """What was complained of and has not gone well since."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def tell(self, doing: str, error: Exception) -> None:
        """Log it, unless the same was logged the last time."""
        text = f"{type(error).__name__}: {error}"
        if self._told.get(doing) == text:
            return
        if len(self._told) >= MOST_TOLD:
            self._told.clear()
        self._told[doing] = text
        log.warning("recovery_failed", doing=doing, error=text)

    def withdraw(self, doing: str) -> None:
        """It went well: the next failure is told again."""
        self._told.pop(doing, None)
