"""Messages of a chat and their tool calls, from Ollama's form into OpenAI's and back."""

from collections.abc import Mapping
from typing import Any

import orjson

_IMAGE_KINDS = {"/9j/": "jpeg", "iVBORw": "png", "R0lGOD": "gif", "UklGR": "webp"}
"""How pictures begin, in base64."""


def read_messages(messages: object) -> list[dict[str, Any]]:
    """A chat in OpenAI's form.

    Results of tools name their tool in Ollama's form, and in OpenAI's the call that they answer: the first of that
    name that has none yet.

    Raises:
        TypeError: it is no chat.
    """
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise TypeError("messages must be a list of objects")
    calls: list[tuple[str, str]] = []
    """(id, tool) of the calls that have no result yet."""
    written: list[dict[str, Any]] = []
    for message in messages:
        told: dict[str, Any] = {
            "role": message.get("role"),
            "content": with_images(message.get("content") or "", message.get("images")),
        }
        if thinking := message.get("thinking"):
            told["reasoning_content"] = thinking
        if made := message.get("tool_calls"):
            told["tool_calls"] = [_written_call(call, f"call_{len(written)}_{place}") for place, call in _listed(made)]
            calls += [(call["id"], call["function"]["name"]) for call in told["tool_calls"]]
        if told["role"] == "tool":
            told["tool_call_id"] = _answered_call(message, calls)
        written.append(told)
    return written


def with_images(text: object, images: object) -> object:
    """A message's content; with pictures it has parts.

    Args:
        text: its words.
        images: a list of pictures in base64, or nothing.

    Raises:
        TypeError: they are something else.
    """
    if not isinstance(text, str):
        raise TypeError("content must be a text")
    if not images:
        return text
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise TypeError("images must be a list of texts in base64")
    words = [{"type": "text", "text": text}] if text else []
    return [*words, *({"type": "image_url", "image_url": {"url": _data_url(image)}} for image in images)]


def read_calls(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tool calls of OpenAI's form, whose arguments are JSON in a text, in Ollama's, whose arguments are an object.

    Raises:
        ValueError: the arguments are no JSON object.
        TypeError: they are no calls.
    """
    told = []
    for place, call in enumerate(calls):
        function = call.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise TypeError("a tool call without a name")
        arguments = function.get("arguments") or "{}"
        arguments = orjson.loads(arguments) if isinstance(arguments, str) else arguments
        if not isinstance(arguments, dict):
            raise TypeError("the arguments of a tool call are no object")
        named = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
        told.append(named | {"function": {"index": place, "name": function["name"], "arguments": arguments}})
    return told


def _written_call(call: Mapping[str, Any], default_id: str) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise TypeError("a tool call needs a function with a name")
    given = function.get("arguments") or {}
    arguments = given if isinstance(given, str) else orjson.dumps(given).decode()
    id_ = call.get("id")
    return {
        "id": id_ if isinstance(id_, str) and id_ else default_id,
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }


def _answered_call(message: Mapping[str, Any], calls: list[tuple[str, str]]) -> str:
    """The id of the call that this is the result of; taken off the list."""
    said = message.get("tool_call_id")
    name = message.get("tool_name") or message.get("name")
    fits = [call for call in calls if call[0] == said] or [call for call in calls if call[1] == name] or calls
    if not fits:
        return said if isinstance(said, str) and said else "call_0"
    found = fits[0]
    calls.remove(found)
    return found[0]


def _listed(calls: object) -> list[tuple[int, Mapping[str, Any]]]:
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise TypeError("tool_calls must be a list of objects")
    return [*enumerate(calls)]


def _data_url(image: str) -> str:
    if image.startswith("data:"):
        return image
    kind = next((kind for start, kind in _IMAGE_KINDS.items() if image.startswith(start)), "png")
    return f"data:image/{kind};base64,{image}"
