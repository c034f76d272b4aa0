"""The judge: one client's text against the numbered tokens that the engine would have said to it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_TOKEN = re.compile(r"t(0|[1-9]\d{0,8}) ")


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many tokens of one answer are wrong, and in which way; all 0 where the text is the engine's own."""

    lost: int = 0
    """Tokens that are missing: up to the last one of a finished answer, up to the highest that came of another."""
    doubled: int = 0
    """Tokens that came more than once, each repetition counted."""
    disordered: int = 0
    """Tokens that came, for the first time, after one with a higher number."""
    foreign: int = 0
    """What the engine would not have said: tokens past the end, and stretches of text that are no tokens."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return self == Verdict()


def judge(text: str, tokens: int, *, is_finished: bool) -> Verdict:
    """Compare `text` with the answer `t0 t1 …` of so many tokens.

    An answer that ended early, by an error or by its client, may lack its end but nothing before.
    """
    numbers, stray = _read(text)
    known = [number for number in numbers if number < tokens]
    said = set(known)
    due = tokens if is_finished else max(said, default=-1) + 1
    return Verdict(
        lost=due - len(said),
        doubled=len(known) - len(said),
        disordered=_late(known),
        foreign=stray + len(numbers) - len(known),
    )


def _read(text: str) -> tuple[list[int], int]:
    """The numbers of the tokens in a text, and how many stretches of it are no tokens."""
    numbers: list[int] = []
    stray = at = 0
    for found in _TOKEN.finditer(text):
        stray += found.start() > at
        numbers.append(int(found[1]))
        at = found.end()
    return numbers, stray + (at < len(text))


def _late(numbers: Sequence[int]) -> int:
    """How many of the first occurrences stand after a higher number."""
    late, highest = 0, -1
    seen: set[int] = set()
    for number in numbers:
        late += number < highest and number not in seen
        seen.add(number)
        highest = max(highest, number)
    return late
