"""Lanes that are not there: how the broker says so, and as what it is told."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions as rx

from common.broker.broker import broker_errors
from common.errors import BrokerRefused, LaneMissing


@contextmanager
def lane_errors() -> Iterator[None]:
    """As `broker_errors`; a lane that is not there is LaneMissing."""
    try:
        with broker_errors():
            yield
    except BrokerRefused as exc:
        if is_nogroup(exc):
            raise LaneMissing(str(exc)) from exc.__cause__
        raise


def is_nogroup(exc: BaseException) -> bool:
    """Whether the broker says that a lane or its group is missing: flushed, restarted empty, or new."""
    cause = exc if isinstance(exc, rx.ResponseError) else exc.__cause__
    # Redis 7.0 tells a blocked reader so: UNBLOCKED the stream key no longer exists
    return isinstance(cause, rx.ResponseError) and any(word in str(cause) for word in ("NOGROUP", "UNBLOCKED"))
