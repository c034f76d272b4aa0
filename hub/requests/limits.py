"""A client key's limits as its client sees them: what a request is expected to use, and what the headers say."""

import orjson

from common.records.credentials import ClientKey
from common.records.limits import Allowance, LimitSettings, Quota
from hub.settings import HubSettings

BYTES_PER_TOKEN = 4
_ANSWER_LIMITS = ("max_completion_tokens", "max_output_tokens", "max_tokens")


def estimated_tokens(key: ClientKey, body: bytes, answer_tokens: int) -> int:
    """How many tokens to set aside for a request until its engine tells: what its body may hold, and its own limit.

    Args:
        key: whose request it is; without a limit of tokens nothing is set aside.
        body: a JSON object.
        answer_tokens: for a request that sets no limit to its answer.
    """
    if key.tpm is None:
        return 0
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:  # another reader took it for JSON: the engine may judge
        said = {}
    options = said.get("options")
    limits = [said.get(name) for name in _ANSWER_LIMITS]
    limits += [options.get("num_predict")] if isinstance(options, dict) else []
    answer = next((one for one in limits if isinstance(one, int) and one > 0), answer_tokens)
    return len(body) // BYTES_PER_TOKEN + answer


def limit_settings(settings: HubSettings) -> LimitSettings:
    """What this hub's settings say of all keys."""
    lease_ms = int(settings.limit_lease_s * 1000)
    return LimitSettings(
        lane_share=settings.lane_share,
        max_waiting=settings.max_queue_per_key,
        lease_ms=lease_ms,
        ttl_ms=2 * lease_ms + int(settings.reply_ttl_s * 1000),
    )


def quota_headers(quota: Quota | None) -> dict[str, str]:
    """OpenAI's `x-ratelimit-…` of what a key has left; nothing where it has no such limits."""
    headers: dict[str, str] = {}
    for what, allowance in (("requests", quota and quota.requests), ("tokens", quota and quota.tokens)):
        if isinstance(allowance, Allowance):
            headers[f"x-ratelimit-limit-{what}"] = str(allowance.limit)
            headers[f"x-ratelimit-remaining-{what}"] = str(allowance.remaining)
            headers[f"x-ratelimit-reset-{what}"] = duration(allowance.full_in_ms)
    return headers


def duration(ms: int) -> str:
    """A time as OpenAI writes it: `20ms`, `1s`, `1.5s`, `6m0s`, `1h0m0s`."""
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest_ms = divmod(ms, 60_000)
    seconds = f"{rest_ms / 1000:g}s" if minutes == 0 else f"{-(-rest_ms // 1000)}s"
    if seconds == "60s":
        minutes, seconds = minutes + 1, "0s"
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + seconds
