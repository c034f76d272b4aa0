"""What a frame is drawn for."""

from collections.abc import Sequence
from dataclasses import dataclass

from ghub.top.bars import Glyphs


@dataclass(frozen=True, slots=True)
class View:
    """A screen, and what was seen on it before."""

    width: int
    height: int
    """Lines; `NO_LIMIT` where they may run on."""
    glyphs: Glyphs
    rates: Sequence[float] = ()
    """Tokens a second at each of the last moments, the newest last."""
    is_live: bool = False
    """Whether it goes on."""


NO_LIMIT = 10_000
WIDE, WIDEST = 100, 130
"""From how many columns on there is room for more of each."""
