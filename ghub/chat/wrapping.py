"""Words kept whole at the right edge of a terminal, though they come in pieces.

A piece is shown at once. When a word grows past the edge, what stands of it is taken back and begun again on the next
line. Lines between fences of ``` are left as they are: program text is copied from a terminal.
"""

from collections.abc import Callable

from rich.cells import cell_len

FENCE = "```"


class Wrapping:
    """Turns text, as it comes, into what is written to a terminal."""

    def __init__(self, columns: Callable[[], int]) -> None:
        self._columns = columns
        self._column = 0
        self._word = ""
        """What stands of the word that is being said, at the end of the line."""
        self._line = ""
        """The first characters of the line of the text."""
        self._is_fenced = False

    def feed(self, text: str) -> str:
        """What to write for the next piece of text, which has no control characters but newlines and tabs."""
        return "".join(map(self._next, text))

    @property
    def _width(self) -> int:
        """Without the last column: where the cursor is once that is taken, terminals don't agree."""
        return max(2, self._columns() - 1)

    def _next(self, char: str) -> str:
        if char == "\n":
            if self._line == FENCE:
                self._is_fenced = not self._is_fenced
            self._column, self._word, self._line = 0, "", ""
            return char
        if len(self._line) < len(FENCE):
            self._line += char
        cells = 8 - self._column % 8 if char == "\t" else cell_len(char)
        if self._is_fenced:
            return char
        if char.isspace():
            self._word = ""
            if self._column + cells > self._width:
                self._column = 0
                return "\n"
            self._column += cells
            return char
        return self._moved_down(cells) + self._placed(char, cells)

    def _placed(self, char: str, cells: int) -> str:
        self._word += char
        self._column += cells
        return char

    def _moved_down(self, cells: int) -> str:
        """Begin the word again on a line of its own, if this character has no place on this one."""
        stands = cell_len(self._word)
        if self._column + cells <= self._width:
            return ""
        if stands >= self._column:  # it is longer than a line: the terminal breaks it
            self._column, self._word = 0, ""
            return "\n"
        back = f"\x1b[{stands}D\x1b[K" if stands else ""
        self._column = stands
        return f"{back}\n{self._word}"
