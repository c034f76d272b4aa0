"""How the lines of a screen are shared out."""

from collections.abc import Sequence


def shared(lines: int, needs: Sequence[int]) -> list[int]:
    """Give each its need where that fits; else all as much as each other, and who needs less leaves the rest to others.

    Args:
        lines: what there is.
        needs: what each could use.
    """
    given = [0] * len(needs)
    left = max(0, lines)
    while left and (open_ones := [place for place, need in enumerate(needs) if given[place] < need]):
        for place in open_ones:
            if left:
                given[place] += 1
                left -= 1
    return given
