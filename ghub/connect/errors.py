"""What a front knows of failures: those of a hub, which another one may make good, and its own words to clients."""

from dataclasses import dataclass

import orjson

from ghub.connect.headers import RawHeaders
from hub.errors import RequestFailed


@dataclass(frozen=True, slots=True)
class Refusal:
    """A hub's answer that is an error, whole."""

    status: int
    headers: RawHeaders
    body: bytes
    code: str | None
    """None: no hub said this, but something in front of it."""

    def as_error(self) -> RequestFailed:
        """The same, to be told in the middle of an answer."""
        return RequestFailed(_message_in(self.body), status=self.status, code=self.code or "bad_gateway")


class HubFailed(Exception):
    """A hub did not answer, broke off, or sends its clients elsewhere.

    Args:
        why: in words, for the log.
        is_unsent: whether the hub cannot have heard the request.
        refusal: what it answered, to be told if nobody says anything better.
    """

    def __init__(self, why: str, *, is_unsent: bool = False, refusal: Refusal | None = None) -> None:
        super().__init__(why)
        self.is_unsent = is_unsent
        self.refusal = refusal


class NoHub(RequestFailed):
    """No hub of those that are known answers."""

    status, code = 503, "no_hub"


class FrontStopping(RequestFailed):
    """This front is stopping."""

    status, code = 503, "shutting_down"


class FrontFull(RequestFailed):
    """This front holds as many connections as it may."""

    status, code = 503, "too_many_connections"


class AnswerBroken(RequestFailed):
    """The hub broke off an answer that cannot be gone on with."""

    status, code = 502, "answer_broken"


LEAVING = frozenset({"shutting_down", "handed_on"})
"""Codes with which a hub says that it is going."""
ELSEWHERE = LEAVING | {"broker_unavailable", "too_many_readers", "request_not_found"}
"""Codes in the middle of an answer after which it may be had elsewhere or later. One that is not found: a broker that
came back empty is told anew what runs."""
BEFORE_IT_BEGAN = LEAVING | {"broker_unavailable", "hub_lost", "hub_full", "too_many_connections", "too_many_readers"}
"""The same as long as nothing of it was told."""
GATEWAY = (502, 503, 504)
"""What a balancer answers, in words that are no hub's, for want of one."""


def _message_in(body: bytes) -> str:
    """What an error of any of the APIs says."""
    try:
        error = orjson.loads(body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return "The hub refused to go on with this answer."
