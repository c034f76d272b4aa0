"""How often what ended how."""

from collections import Counter

MOST_NAMES = 64
MAX_NAME_CHARS = 64
OTHER = "other"
"""Stands for all names past these limits."""


class Outcomes(Counter[str]):
    """Counts by outcome.

    Engines give their errors codes of their own, one for each request if they like: without a bound the figures for
    Prometheus, and this, would grow for ever.
    """

    def note(self, name: str) -> None:
        """One more ended like this."""
        is_new = name not in self and len(self) >= MOST_NAMES
        self[OTHER if is_new or len(name) > MAX_NAME_CHARS else name] += 1
