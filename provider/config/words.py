"""What a wrong value is told as: what was found and what was expected. Never a secret."""

import re
from collections.abc import Iterator, Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from provider.config.layout import (
    KEY_OF,
    FieldPath,
    Place,
    expected,
    is_secret,
    nearest,
    setting_of,
    takes,
    variable_of,
)

MAX_FOUND_CHARS = 60
HIDDEN = "********"


def without_password(text: str) -> str:
    """Hide what stands before the @ of a URL and after its ?; any other text stays as it is."""
    return re.sub(r"(://[^?]*)\?.*", rf"\1?{HIDDEN}", re.sub(r"(?<=://).*@", f"{HIDDEN}@", text))


def truths(values: Mapping[FieldPath, object], places: Mapping[FieldPath, Place]) -> dict[FieldPath, str]:
    """Name those settings that got a true or false that they cannot take: pydantic would read 1 or 0 out of it."""
    return {
        path: f"{places[path]}: expected {expected(path)}, found {_found(path, value)}"
        for path, value in values.items()
        if path in KEY_OF and not takes(path, bool) and _has_truth(value)
    }


def explained(error: ValidationError, places: Mapping[FieldPath, Place]) -> Iterator[str]:
    """Each wrong setting once, by the place of its value."""
    told: set[FieldPath] = set()
    for problem in error.errors():
        path = setting_of(problem["loc"])
        if path not in told:
            told.add(path)
            yield _explained(path, problem, places)


def _explained(path: FieldPath, problem: ErrorDetails, places: Mapping[FieldPath, Place]) -> str:
    if path not in KEY_OF:  # in the file it would have been told by its reader
        variables = [variable_of(one) for one in KEY_OF]
        return f"{variable_of(path)}: no such setting{nearest(variable_of(path), variables)}"
    if problem["type"] == "value_error":
        return f"{places.get(path) or _default(path, places)}: {problem['msg'].removeprefix('Value error, ')}"
    return f"{places.get(path) or variable_of(path)}: expected {_wanted(path)}, found {_found(path, problem['input'])}"


def _wanted(path: FieldPath) -> str:
    if path == ("prefix",):
        return "1 to 40 characters without spaces and braces"
    return expected(path)


def _default(path: FieldPath, places: Mapping[FieldPath, Place]) -> str:
    """How to name a default that does not go with another setting of its section."""
    near = [place for one, place in places.items() if one[0] == path[0]]
    return f"{near[0]}: {path[-1]} has to be set too" if near else variable_of(path)


def _found(path: FieldPath, value: object) -> str:
    if is_secret(path):
        return "something else (it is not shown)"
    if isinstance(value, dict):
        return "keys"
    text = str(value).lower() if isinstance(value, bool) else without_password(repr(value))
    return text if len(text) <= MAX_FOUND_CHARS else f"{text[:MAX_FOUND_CHARS]}…"


def _has_truth(value: object) -> bool:
    return isinstance(value, bool) or (isinstance(value, list) and any(isinstance(part, bool) for part in value))
