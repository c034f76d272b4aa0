"""What the HTTP answers of hubs and providers hold: an object of JSON, or an error in the form of one of the APIs."""

from typing import Any, NamedTuple

import httpx2

from ghub.showing.printable import printable


class Refusal(NamedTuple):
    """What an error says."""

    code: str
    """Empty where it tells none."""
    message: str
    """Harmless for a terminal."""


def json_object(answer: httpx2.Response) -> dict[str, Any] | None:
    """The object of an answer that was read to its end; None if it holds none."""
    try:
        found = answer.json()
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def refusal(answer: httpx2.Response) -> Refusal | None:
    """The error of an answer that was read to its end; None if it holds none of ours."""
    error = (json_object(answer) or {}).get("error")
    if isinstance(error, str):  # Ollama's form
        return Refusal("", printable(error))
    if not isinstance(error, dict):
        return None
    return Refusal(str(error.get("code") or ""), printable(str(error.get("message"))))
