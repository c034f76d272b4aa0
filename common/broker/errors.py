"""What the broker's errors mean, and as what they are told: redis-py has classes for some of them only."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from redis import exceptions as rx

from common.errors import BrokerDenied, BrokerRefused, BrokerUnavailable, LaneMissing

_AWAY = (
    *(rx.ConnectionError, rx.TimeoutError, rx.ReadOnlyError, rx.MasterDownError),
    *(rx.ClusterDownError, rx.TryAgainError),
)
_DEPOSED = re.compile(r"-?NOREPLICAS |-?UNBLOCKED .*instance state changed")
"""It takes no writes at present; or a blocking read ended since its server became a replica."""
_PASSING = (rx.OutOfMemoryError, rx.ReadOnlyError, rx.ConnectionError, rx.ClusterDownError)
_PASSING_WORDS = ("MISCONF", "NOREPLICAS", "BUSY ")
"""It cannot save its data, lacks its replicas, runs a script."""


@contextmanager
def broker_errors() -> Iterator[None]:
    """Turn what redis-py raises into BrokerUnavailable, BrokerDenied or BrokerRefused."""
    try:
        yield
    except (rx.AuthenticationError, rx.AuthorizationError, rx.NoPermissionError) as exc:
        raise BrokerDenied(f"not allowed: {exc}") from exc
    except (*_AWAY, OSError) as exc:
        raise BrokerUnavailable(str(exc) or type(exc).__name__) from exc
    except rx.AskError as exc:  # that a key has moved, too
        raise BrokerRefused("the broker is a cluster: its URL is redis+cluster://host:port,host:port") from exc
    except rx.RedisError as exc:
        raise BrokerRefused(str(exc)) from exc


@contextmanager
def lane_errors() -> Iterator[None]:
    """As `broker_errors`; a lane that is not there is LaneMissing."""
    try:
        with broker_errors():
            yield
    except BrokerRefused as exc:
        if is_nogroup(exc.__cause__):
            raise LaneMissing(str(exc)) from exc.__cause__
        raise


def raise_first(answers: Sequence[object]) -> None:
    """Raise the first refusal among the answers of a line."""
    for answer in answers:
        if isinstance(answer, rx.ResponseError):
            raise answer


def is_deposed(error: Exception) -> bool:
    """Whether a server says that it is not the one to talk to: no master any more, or without replicas to write to."""
    return isinstance(error, rx.ReadOnlyError | rx.MasterDownError) or _DEPOSED.match(str(error)) is not None


def is_nogroup(answer: object) -> bool:
    """Whether a lane or its group is missing: flushed, restarted empty, or new."""
    # Redis 7.0 tells a blocked reader so: UNBLOCKED the stream key no longer exists
    return isinstance(answer, rx.ResponseError) and any(word in str(answer) for word in ("NOGROUP", "UNBLOCKED"))


def is_behind(answer: object) -> bool:
    """Whether a stream takes no entry under this id, since it holds that or a higher one."""
    return isinstance(answer, rx.ResponseError) and "equal or smaller" in str(answer)


def is_passing(error: Exception) -> bool:
    """Whether an error says nothing of the key that was asked for: it concerns every command, and will be over."""
    return isinstance(error, _PASSING) or str(error).startswith(_PASSING_WORDS)
