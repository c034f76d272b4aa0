"""Other people's text made harmless for a terminal."""

JOINERS = "\u200c\u200d"
"""What joins and parts letters (of Persian, say) and emoji; they move nothing."""


def printable(text: str, kept: str = "") -> str:
    """The text with a `?` for whatever could move a cursor, turn its order around or cannot be written at all.

    Args:
        text: from another machine or a model.
        kept: characters that stay all the same.
    """
    return "".join(char if char.isprintable() or char in kept else "?" for char in text)


def printable_lines(text: str) -> str:
    """The same of a text with lines: their ends and tabs stay."""
    return printable(text.replace("\r\n", "\n").replace("\r", ""), "\n\t" + JOINERS)
