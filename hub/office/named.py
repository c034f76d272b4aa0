"""Keys and tokens by the names that people give them."""

import re
from collections.abc import Iterable
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

from common.records.credentials import ClientKey, ProviderToken
from common.settings import NAME_PATTERN
from hub.errors import Conflict, NotFound

Record = TypeVar("Record", ClientKey, ProviderToken)
_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)


def _no_id(name: str) -> str:
    if _ID.fullmatch(name):
        raise ValueError("16 hexadecimal digits are what an id looks like: choose another name")
    return name


RecordName = Annotated[str, Field(pattern=f"^{NAME_PATTERN}$"), AfterValidator(_no_id)]
"""Can stand in a path, and is never mistaken for an id."""


def find_record(records: Iterable[Record], wanted: str, kind: str) -> Record:
    """The record with this id or name.

    Raises:
        NotFound: there is none; `kind` is what it would be, for the message and the code.
    """
    found = next((one for one in records if wanted in (one.id, one.name)), None)
    if found is None:
        raise NotFound(f"There is no {kind} {wanted!r}.", code=f"{kind}_not_found")
    return found


def check_alone(records: Iterable[Record], name: str, kind: str, *, at_most: int = 0) -> None:
    """Raise Conflict if more than so many of these have the name."""
    if sum(one.name == name for one in records) > at_most:
        raise Conflict(f"There is a {kind} {name!r} already.", code="name_taken", param="name")
