"""Reads until when something is good, as people write it."""

import re
from datetime import UTC, datetime, timedelta

_UNITS_S = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"([1-9][0-9]{0,5})([mhdw])", re.ASCII)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
FORMS = "a duration such as 90m, 12h, 30d or 4w, a day such as 2027-01-31 (to its end, UTC), or an ISO time"


def expiry_ms(said: str, now_ms: int) -> int:
    """The moment after which it is no longer good, Unix ms.

    Args:
        said: one of `FORMS`; an ISO time without an offset is UTC.
        now_ms: Unix ms.

    Raises:
        ValueError: it is nothing of that, or in the past.
    """
    if duration := _DURATION.fullmatch(said):
        return now_ms + int(duration[1]) * _UNITS_S[duration[2]] * 1000
    try:
        moment = datetime.fromisoformat(said)
        if _DAY.fullmatch(said):
            moment += timedelta(days=1)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        at_ms = int(moment.timestamp() * 1000)
    except (ValueError, OverflowError) as exc:
        raise ValueError(f"expected {FORMS}") from exc
    if at_ms <= now_ms:
        raise ValueError("this is in the past")
    return at_ms
