"""Questions that hold the beginning of their answer, as engines are asked to go on with it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson

from provider.continuing.obstacles import Obstacle, cannot_continue
from provider.continuing.requests import one_prompt
from provider.engines.altered import Alteration, AlteredAnswer, BlanksOnce
from provider.protocol.engine import EngineAnswer, Question

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


def with_prompt(question: Question) -> Question:
    """The same, with the beginning of its answer behind its prompt: plain completions go on with any text."""
    if question.said is None:
        return question
    fields = read_fields(question)
    if (prompt := one_prompt(fields.get("prompt"))) is None:
        raise cannot_continue(Obstacle.PROMPTS)
    return asked(question, {**fields, "prompt": prompt + question.said.text})


def without_prefill(question: Question) -> Question:
    """For engines that only go on with plain completions; others are refused, and another node may do better.

    Raises:
        EngineFailed: it is another question, and its answer has begun; its code is `cannot_continue`.
    """
    if question.said is not None and question.endpoint != COMPLETIONS:
        raise cannot_continue(Obstacle.NO_PREFILL)
    return with_prompt(question)


def with_message(messages: object, text: str, *, is_joined: bool = True) -> list[dict[str, Any]]:
    """A chat that ends with the beginning of its answer.

    Args:
        messages: the chat, in OpenAI's form or in Ollama's.
        text: the beginning.
        is_joined: whether a last message of the assistant's that the client wrote is part of the answer.
    """
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        raise cannot_continue(Obstacle.FORM)
    *before, last = messages
    if not is_joined or last.get("role") != "assistant":
        return [*messages, {"role": "assistant", "content": text}]
    content = last.get("content") or ""
    match content:
        case str():
            return [*before, {**last, "content": content + text}]
        case [*parts, {"type": "text", "text": str(end)} as part]:
            return [*before, {**last, "content": [*parts, {**part, "text": end + text}]}]
        case _:
            raise cannot_continue(Obstacle.FORM)


def split_blanks(text: str) -> tuple[str, str]:
    """A text without the blanks at its end, and these."""
    kept = text.rstrip()
    return kept, text[len(kept) :]


def read_fields(question: Question) -> dict[str, Any]:
    """What the body of a question that an engine has taken before says."""
    fields = orjson.loads(question.body)
    if not isinstance(fields, dict):
        raise cannot_continue(Obstacle.FORM)
    return fields


def asked(question: Question, fields: Mapping[str, Any]) -> Question:
    """The same with this body, which holds the beginning of the answer."""
    return replace(question, body=orjson.dumps(fields), said=None)


@asynccontextmanager
async def altered(
    asking: AbstractAsyncContextManager[EngineAnswer], alterations: list[Alteration], max_event_bytes: int
) -> AsyncIterator[EngineAnswer]:
    """Ask, and alter what is answered."""
    async with asking as answer:
        yield AlteredAnswer(answer, alterations, max_event_bytes)


def once(blanks: str) -> list[Alteration]:
    """The alteration that says these blanks not again; none if there are none."""
    return [BlanksOnce(blanks)] if blanks else []
