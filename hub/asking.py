"""What is said where the broker is asked on behalf of a person, and does not answer."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from common.errors import BrokerError
from hub.errors import BrokerAway

log = structlog.get_logger()


@contextmanager
def asking_broker(doing: str, retry_after_s: int, unknown: str = "") -> Iterator[None]:
    """Turn a BrokerError into BrokerAway; `doing` is for the log, `unknown` is what cannot be told without it."""
    try:
        yield
    except BrokerError as exc:
        log.warning("broker_unavailable", doing=doing, error=str(exc))
        said = "the broker does not answer"
        raise BrokerAway(f"{said}: {unknown}" if unknown else said, retry_after_s=retry_after_s) from exc
