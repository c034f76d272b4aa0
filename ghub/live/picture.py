"""The picture of a grid, and the changes to it."""

from collections.abc import Mapping
from typing import Any

import httpx2

from ghub.client.hub import AdminHub, HubUnmoved

Picture = Mapping[str, Any]
"""What `GET /api/overview` answers: objects by id, without nulls; see docs/operations.md."""


def merged(before: Any, patch: Any) -> Any:  # noqa: ANN401 - JSON
    """A JSON merge patch (RFC 7396) on a former state, which stays as it is: null deletes, lists are put in whole."""
    if not isinstance(patch, Mapping):
        return patch
    after = {**before} if isinstance(before, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            after.pop(name, None)
        else:
            after[name] = merged(after.get(name), value)
    return after


def age_ms(picture: Picture, since_ms: int | None) -> float | None:
    """How long ago a moment was when the picture was taken; None if either is not known."""
    now_ms = picture.get("at")
    return None if now_ms is None or since_ms is None else float(now_ms - since_ms)


def picture_if_told(hub: AdminHub) -> Picture:
    """The picture, or an empty one from a hub of a version that has none.

    Raises:
        HubUnmoved: the hub does not answer, or refuses.
    """
    try:
        return hub.get("overview")
    except HubUnmoved as exc:
        if exc.status == httpx2.codes.NOT_FOUND:
            return {}
        raise
