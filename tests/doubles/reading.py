"""Reading an answer back: what a stream of the test engine, or of anything in front of it, said."""

import json
import re
from typing import Any

_DATA_LINE = re.compile(r"^data: (.*?)\r?$", re.MULTILINE)


def events_in(text: str) -> list[dict[str, Any]]:
    """Return the JSON events of a whole SSE text, without [DONE]; raises json.JSONDecodeError."""
    return [json.loads(payload) for payload in _DATA_LINE.findall(text) if payload != "[DONE]"]


def said_in(text: str) -> str:
    """Return the words a chat or completion stream's events add up to."""
    choices = [choice for event in events_in(text) for choice in event.get("choices", [])]
    return "".join(choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in choices)


def numbered(start: int, stop: int) -> str:
    """Return the text of the tokens start..stop-1, to compare with."""
    return "".join(f"t{number} " for number in range(start, stop))


def holds(ours: object, theirs: object) -> bool:
    """Whether all that one JSON value says stands in another, which may say more."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return all(name in ours and holds(ours[name], value) for name, value in theirs.items())
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(holds, ours, theirs))
    return ours == theirs


def without_nulls(value: Any) -> Any:
    """A JSON value without the members that are null."""
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value
