"""A client that notes the ids of the events it reads, and comes back for the rest."""

import re
from collections.abc import Mapping
from typing import Any

from tests.doubles.reading import said_in
from tests.support.call import Answer, Call

RESUMABLE = {"x-ghub-resumable": "1"}
_ID = re.compile(r"^id: (.*)$", re.MULTILINE)


def ids_of(text: str) -> list[str]:
    """The ids of the events, in order."""
    return _ID.findall(text)


def cuts_of(text: str) -> list[tuple[str, str]]:
    """For each whole event of a stream its id, and what a client has read that was cut off behind it."""
    cuts = []
    at = 0
    for block in text.split("\n\n")[:-1]:
        at += len(block) + 2
        if found := _ID.search(block):
            cuts.append((found[1], text[:at]))
    return cuts


class Asked(Call):
    """A call that tells which request it made."""

    @property
    def request(self) -> str:
        """Its id; waits for the head of the answer."""
        return self._response.headers["x-request-id"]

    @property
    def node(self) -> str:
        """Who had its job when the answer began."""
        return self._response.headers["x-ghub-node"]


def resume(
    hub: str, request: str, after: str | None = None, headers: Mapping[str, str] | None = None, **options: Any
) -> Answer:
    """The rest of a stream behind an event, or all of it, read to the end."""
    return follow(hub, request, after, headers, **options).finish()


def follow(
    hub: str, request: str, after: str | None = None, headers: Mapping[str, str] | None = None, **options: Any
) -> Call:
    """The same, to be read by the test."""
    sent = {**(headers or {}), **({} if after is None else {"last-event-id": after})}
    return Call(hub, path=f"/v1/requests/{request}/stream", method="GET", headers=sent, **options)


def joined(read: str, rest: Answer) -> str:
    """The text of the tokens of what was read before a cut and of the rest."""
    return said_in(read) + said_in(rest.text)
