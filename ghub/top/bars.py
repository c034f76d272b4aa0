"""Bars and sparklines, in what the terminal can show."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters that lines are drawn with."""

    full: str
    empty: str
    steps: str
    """From nothing to all."""
    dot: str
    """Between two things on one line."""

    @classmethod
    def that_fit(cls, encoding: str | None) -> "Glyphs":
        """Blocks where they can be written, else what every terminal has."""
        blocks = cls("█", "░", " ▁▂▃▄▅▆▇█", "·")
        try:
            (blocks.full + blocks.empty + blocks.steps + blocks.dot).encode(encoding or "ascii")
        except (UnicodeEncodeError, LookupError):
            return cls("#", ".", " _.-=+*%#", "|")
        return blocks


def bar(share: float, width: int, glyphs: Glyphs) -> tuple[str, str]:
    """The full and the empty part of a bar. `share` is cut to 0 … 1; what is not nothing shows."""
    share = min(1.0, max(0.0, share))
    full = round(share * width)
    if share > 0:
        full = max(1, full)
    return glyphs.full * full, glyphs.empty * (width - full)


def sparkline(values: Sequence[float], width: int, glyphs: Glyphs) -> str:
    """The last `width` values as a line of small columns, the highest as high as can be."""
    shown = [max(0.0, value) for value in values[-width:]] if width > 0 else []
    most = max(shown, default=0.0)
    if most <= 0:
        return glyphs.steps[1] * len(shown)
    top = len(glyphs.steps) - 1
    return "".join(glyphs.steps[max(1, round(value / most * top))] for value in shown)
