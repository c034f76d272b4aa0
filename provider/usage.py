"""Reads how many tokens an answer took, as far as its engine says."""

import orjson

from common.wire import Usage

TAIL_BYTES = 4096


def read_usage(tail: bytes, *, streamed: bool) -> Usage:
    """Usage from the end of a stream, or from a whole JSON answer; empty where nothing is said."""
    candidates = [line[5:] for line in reversed(tail.splitlines()) if line.startswith(b"data:")] if streamed else [tail]
    for candidate in candidates:
        if b'"usage"' not in candidate and b'"timings"' not in candidate:
            continue
        try:
            parsed = orjson.loads(candidate)
        except ValueError:
            continue
        if isinstance(parsed, dict) and (usage := _from_object(parsed)) is not None:
            return usage
    return Usage()


def _from_object(parsed: dict[str, object]) -> Usage | None:
    usage, timings = parsed.get("usage"), parsed.get("timings")
    if isinstance(usage, dict):
        return Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))
    if isinstance(timings, dict):  # llama.cpp's last chunk; what its cache held counts as prompt too
        prompt, cached = _count(timings.get("prompt_n")), _count(timings.get("cache_n"))
        return Usage(None if prompt is None else prompt + (cached or 0), _count(timings.get("predicted_n")))
    return None


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None
