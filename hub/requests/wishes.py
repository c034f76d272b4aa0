"""What a client wants to happen to its request when something dies."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wishes:
    """Said with the request, and true for its whole life."""

    is_resumable: bool = False
    """It goes on for a while without anybody who reads it, and another hub may look after it."""
    may_continue: bool = True
    """Another node may go on with an answer that has begun."""


NONE = Wishes()
