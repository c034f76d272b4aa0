"""What can be read out of an engine's JSON, whatever it holds."""

from collections.abc import Iterable

from provider.errors import EngineDown


def rows(document: object, key: str) -> list[dict[str, object]]:
    """The objects in a list of a document, e.g. its models.

    Raises:
        EngineDown: there is no such list.
    """
    if (found := find_rows(document, key)) is None:
        raise EngineDown(f"its answer has no list of {key!r}")
    return found


def find_rows(document: object, key: str) -> list[dict[str, object]] | None:
    """The same; None where there is no such list."""
    listed = document.get(key) if isinstance(document, dict) else None
    return [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else None


def text(document: object, key: str) -> str:
    """A text of a document; empty where there is none."""
    value = document.get(key) if isinstance(document, dict) else None
    return value if isinstance(value, str) else ""


def count(document: object, key: str) -> int | None:
    """A number of things in a document, 0 or more; None where there is none."""
    value = document.get(key) if isinstance(document, dict) else None
    return value if type(value) is int and value >= 0 else None


def has_any(values: Iterable[dict[str, object]], key: str, value: object) -> bool:
    """Whether one of these objects says this."""
    return any(row.get(key) == value for row in values)
