"""Follows a hub's picture of the grid, and comes back when the connection is lost."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import orjson

from ghub.client.event_stream import StreamComment, StreamEvent, read_stream
from ghub.client.hub import AdminHub, HubUnmoved
from ghub.errors import CommandError
from ghub.live.picture import Picture, merged

SILENCE_S = 35.0
"""The hub has something to say every 15 s, be it a comment: after twice that and a bit it is gone."""
CONNECT_TIMEOUT_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0
"""Between tries to come back; doubled with each."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The latest picture."""

    picture: Picture
    at_s: float
    """When it came, on this machine's monotonic clock."""
    trouble: str = ""
    """Why nothing newer comes; empty while it does."""

    @property
    def now_ms(self) -> float:
        """The time now on the clock by which the picture tells times, ms."""
        return float(self.picture.get("at", 0)) + (time.monotonic() - self.at_s) * 1000


class Following:
    """Reads the hub's stream in a thread of its own, which ends with the process."""

    def __init__(self, hub: AdminHub, first: Picture) -> None:
        self._hub = hub
        self._seen = Seen(first, time.monotonic())
        self._news = threading.Event()

    def start(self) -> None:
        """Begin to follow."""
        threading.Thread(target=self._follow, name="overview", daemon=True).start()

    @property
    def seen(self) -> Seen:
        """What is known now."""
        return self._seen

    def has_news(self) -> bool:
        """Whether something came since this was last asked."""
        had = self._news.is_set()
        self._news.clear()
        return had

    def _follow(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                for picture in self._pictures():
                    self._tell(Seen(picture, time.monotonic()))
                    pause_s = FIRST_PAUSE_S
                trouble = f"the hub at {self._hub.url} ended the stream"
            except (httpx2.HTTPError, CommandError, ValueError) as exc:
                trouble = str(exc) or type(exc).__name__
            self._tell(Seen(self._seen.picture, self._seen.at_s, trouble))
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _tell(self, seen: Seen) -> None:
        self._seen = seen
        self._news.set()

    def _pictures(self) -> Iterator[Picture]:
        timeout = httpx2.Timeout(SILENCE_S, connect=CONNECT_TIMEOUT_S)
        url = f"{self._hub.url}/api/overview/stream"
        with (
            httpx2.Client(timeout=timeout, trust_env=False, headers=self._hub.headers) as client,
            client.stream("GET", url) as answer,
        ):
            if not answer.is_success:
                answer.read()
                raise self._hub.refusal(answer)
            picture: Picture | None = None
            for event in read_stream(answer.iter_raw()):
                picture = _next(picture, event)
                if picture is not None:
                    yield picture


def _next(picture: Picture | None, event: StreamEvent | StreamComment) -> Picture | None:
    """The picture after an event; ValueError if that is none of ours."""
    if isinstance(event, StreamComment):
        return picture
    told: Any = orjson.loads(event.data)
    if not isinstance(told, dict) or (event.name == "patch" and picture is None):
        raise HubUnmoved("what comes is no picture of a grid")
    if event.name == "snapshot":
        return told
    return merged(picture, told) if event.name == "patch" else picture
