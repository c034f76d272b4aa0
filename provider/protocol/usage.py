"""Reads how many tokens an answer took, as far as its engine says."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

import orjson

from common.wire import Usage

_MARKS = (b'"usage"', b'"timings"', b"eval_count")
_TEXT = re.compile(
    rb'"(?:content|text|thinking|response|delta|arguments|partial_json|reasoning|reasoning_content)"\s*:\s*"(?!")'
)
"""A field of any API that brings text, and isn't empty."""


def estimate_usage(told: Usage, count: int, last: Sequence[bytes]) -> Usage:
    """The usage that an engine told; where it lacks the answer's tokens, with as many as events brought text.

    Those that bring none stand at the end of a stream, so that no other has to be looked at.

    Args:
        told: what the engine said.
        count: the events that the stream had.
        last: the last of them, one by one.
    """
    if told.completion_tokens is not None:
        return told
    silent = sum(_TEXT.search(event) is None for event in last)
    return replace(told, completion_tokens=max(0, count - silent), is_estimate=True)


def read_usage(body: bytes) -> Usage:
    """Usage from a whole JSON answer; empty where nothing is said."""
    return _read_last([body])


def read_events_usage(tail: bytes, opening: bytes = b"") -> Usage:
    """Usage from the end of a stream of events; empty where nothing is said.

    Anthropic's messages tell of the prompt in the first event, which `opening` holds, and of the rest in the last.
    """
    usage = _read_last(line[5:] for line in reversed(tail.splitlines()) if line.startswith(b"data:"))
    if usage.prompt_tokens is None and b"message_start" in opening:
        first = _read_last(line[5:] for line in opening.splitlines() if line.startswith(b"data:"))
        return Usage(first.prompt_tokens, usage.completion_tokens or first.completion_tokens)
    return usage


def read_lines_usage(tail: bytes) -> Usage:
    """Usage from the end of a stream of JSON lines."""
    return _read_last(reversed(tail.splitlines()))


def _read_last(candidates: Iterable[bytes]) -> Usage:
    for candidate in candidates:
        if not any(mark in candidate for mark in _MARKS):
            continue
        try:
            parsed = orjson.loads(candidate)
        except ValueError:
            continue
        if isinstance(parsed, dict) and (usage := _from_object(parsed)) is not None:
            return usage
    return Usage()


def _from_object(parsed: dict[str, object]) -> Usage | None:
    for holder in (parsed, parsed.get("response"), parsed.get("message")):
        usage = holder.get("usage") if isinstance(holder, dict) else None
        if isinstance(usage, dict):
            return _from_usage(usage)
    timings = parsed.get("timings")
    if isinstance(timings, dict):  # llama.cpp's last chunk; what its cache held counts as prompt too
        return Usage(_sum(timings, "prompt_n", "cache_n"), _count(timings.get("predicted_n")))
    if "eval_count" in parsed or "prompt_eval_count" in parsed:  # Ollama's last line
        return Usage(_count(parsed.get("prompt_eval_count")), _count(parsed.get("eval_count")))
    return None


def _from_usage(usage: dict[str, object]) -> Usage:
    if "input_tokens" in usage or "output_tokens" in usage:
        # Of responses, where the cached are part of the input, or of messages, where they come beside it.
        prompt = _sum(usage, "input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        return Usage(prompt, _count(usage.get("output_tokens")))
    return Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))


def _sum(counts: dict[str, object], first: str, *others: str) -> int | None:
    """Of these counts; None where the first is not there."""
    known = _count(counts.get(first))
    return None if known is None else known + sum(_count(counts.get(name)) or 0 for name in others)


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None
