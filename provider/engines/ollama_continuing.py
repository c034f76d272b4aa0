"""How Ollama is asked to go on with an answer, and what it says put back into the form in which that began.

It goes on with a last message of the assistant's, in either API. Prompts it puts into the model's template first, in
`/v1/completions` as in `/api/generate`, unless they are raw: a text behind the prompt would be part of the question.
Such a question is asked as the chat that it amounts to.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from provider.continuing.obstacles import Obstacle, cannot_continue
from provider.continuing.requests import one_prompt
from provider.engines.altered import Alteration, Reworded
from provider.engines.prefill import (
    CHAT,
    asked,
    once,
    read_fields,
    split_blanks,
    with_message,
    with_prompt,
)
from provider.protocol.engine import Question, Said

_NATIVE_CHAT = "/api/chat"
_GENERATE = "/api/generate"
_CHATS = frozenset({CHAT, _NATIVE_CHAT})
_OF_PROMPTS = frozenset({"prompt", "system", "images", "raw"})
"""What stands in the messages of a chat instead."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """What to ask, and how what is answered is to be altered."""

    question: Question
    alterations: list[Alteration]


def continued(question: Question, said: Said) -> Continuation:
    """What to ask for the rest of an answer.

    Raises:
        EngineFailed: it cannot be gone on with; its code is `cannot_continue`.
    """
    fields = read_fields(question)
    if question.endpoint == _GENERATE and fields.get("raw") is True:
        return Continuation(with_prompt(question), [])
    if fields.get("template"):
        raise cannot_continue(Obstacle.TEMPLATE)
    text, blanks = split_blanks(said.text)
    if not text:
        return Continuation(replace(question, said=None), once(blanks))
    if question.endpoint in _CHATS:
        told = {**fields, "messages": with_message(fields.get("messages"), text)}
        return Continuation(asked(question, told), once(blanks))
    is_native = question.endpoint == _GENERATE
    chat = {name: value for name, value in fields.items() if name not in _OF_PROMPTS}
    chat["messages"] = with_message(_chat(fields), text)
    as_chat = replace(asked(question, chat), endpoint=_NATIVE_CHAT if is_native else CHAT)
    return Continuation(as_chat, [*once(blanks), Reworded(_as_response if is_native else _as_text)])


def _chat(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The chat that Ollama makes of a prompt."""
    if (prompt := one_prompt(fields.get("prompt"))) is None:
        raise cannot_continue(Obstacle.PROMPTS)
    system = [{"role": "system", "content": fields["system"]}] if fields.get("system") else []
    images = {"images": fields["images"]} if fields.get("images") else {}
    return [*system, {"role": "user", "content": prompt, **images}]


def _as_response(line: dict[str, Any]) -> dict[str, Any]:
    """A line of `/api/chat` as one of `/api/generate`."""
    message: dict[str, Any] = line.pop("message")
    line["response"] = message.pop("content", "")
    del message["role"]
    return line | message


def _as_text(chunk: dict[str, Any]) -> dict[str, Any]:
    """A chunk of a chat as one of a completion."""
    chunk["object"] = "text_completion"
    for choice in chunk["choices"]:
        choice["text"] = choice.pop("delta").get("content") or ""
    return chunk
