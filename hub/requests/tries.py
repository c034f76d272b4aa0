"""How often one request was tried, and what of that counts against it."""

from common.wire import CANNOT_CONTINUE, NOT_SUPPORTED, RELEASED_BY_RESTART, Failure
from hub.settings import HubSettings

MOST_UNTRIED = 200
"""How often a request may be given back by nodes that did not try it. Nodes that close do so once each; one that only
says so can do it two thousand times a second, and each time costs the hub and the broker a requeue."""


FULL_BLAME = 2
HALF_BLAME = 1
"""An attempt that had brought a part of the answer: whatever died may have died of another request beside this one."""


class Tries:
    """Counts failures, which may be the request's fault, apart from releases, which are not."""

    def __init__(self, settings: HubSettings) -> None:
        self._settings = settings
        self._blame = 0
        self._releases = 0
        self._untried = 0

    @property
    def is_failed(self) -> bool:
        """Whether it has failed as often as it may."""
        return self._blame >= self._settings.max_attempts * FULL_BLAME

    @property
    def is_worn_out(self) -> bool:
        """Whether it was given back as often as it may be."""
        return self._releases >= self._settings.max_releases or self._untried >= MOST_UNTRIED

    def failed(self, failure: Failure | None = None, *, brought_any: bool = False) -> None:
        """An attempt failed; None: its node is gone. `brought_any`: it had said a part of the answer."""
        if failure is not None and failure.code in (NOT_SUPPORTED, CANNOT_CONTINUE):
            self._releases += 1
        else:
            self._blame += HALF_BLAME if brought_any else FULL_BLAME

    def forgotten(self) -> None:
        """Nobody runs it, or its words came behind a hole. As a release: nobody is blamed, but not for ever."""
        self._releases += 1

    def released(self, reason: str, *, was_running: bool) -> None:
        """A node gave it back. One that did not run came to a node in the moment that it closed: nobody tried it."""
        self._releases += was_running
        self._untried += not was_running
        if reason == RELEASED_BY_RESTART:
            self._blame += FULL_BLAME
