"""The last hour as points of a curve."""

from collections.abc import Mapping, Sequence
from typing import Any

from common.records.history import FIRST_TOKEN_BOUNDS_MS, Minute


def shown_points(minutes: Sequence[Minute]) -> dict[str, dict[str, Any]]:
    """By the beginning of each minute, Unix ms: what ended in it, and the first-token times of that."""
    return {str(minute.began_at): {**minute.sums, **_first_tokens(minute.first_tokens)} for minute in minutes}


def _first_tokens(buckets: Mapping[int, int]) -> dict[str, int]:
    if not buckets:
        return {}
    return {f"first_token_p{share}_ms": quantile_ms(buckets, share / 100) for share in (50, 95)}


def quantile_ms(buckets: Mapping[int, int], share: float) -> int:
    """The time that so large a share of all did not exceed, as well as buckets can tell: within one in a straight line.

    Args:
        buckets: how many times lie in each, by its number; not empty.
        share: 0 to 1.
    """
    wanted, passed = share * sum(buckets.values()), 0
    for number, count in sorted(buckets.items()):
        if passed + count >= wanted:
            low = FIRST_TOKEN_BOUNDS_MS[number - 1] if number else 0
            high = FIRST_TOKEN_BOUNDS_MS[min(number, len(FIRST_TOKEN_BOUNDS_MS) - 1)]
            return round(low + (max(low, high) - low) * (wanted - passed) / count)
        passed += count
    return FIRST_TOKEN_BOUNDS_MS[-1]
