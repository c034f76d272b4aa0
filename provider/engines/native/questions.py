"""Questions in Ollama's API (docs/api.md of Ollama) as the same in OpenAI's: chats, completions, embeddings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import orjson

from common.wire import Failure
from provider.engines.native.messages import read_messages, with_images
from provider.errors import EngineRefused
from provider.protocol.engine import Question


class NativeForm(StrEnum):
    """Which of Ollama's answers is wanted; the value is its path."""

    CHAT = "/api/chat"
    GENERATE = "/api/generate"
    EMBED = "/api/embed"


NATIVE_PATHS = frozenset(form.value for form in NativeForm)

_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "top_k": ("top_k",),
    "min_p": ("min_p",),
    "typical_p": ("typical_p",),
    "seed": ("seed",),
    "stop": ("stop",),
    "presence_penalty": ("presence_penalty",),
    "frequency_penalty": ("frequency_penalty",),
    "repeat_penalty": ("repeat_penalty", "repetition_penalty"),  # llama.cpp's and LM Studio's name, and vLLM's
}
"""What can be passed on, and under which names. The others (`num_ctx` …) say how a model is loaded: not a client's to
say where others share it."""
_UNLOAD = (0, "0", "0s")

_Told = tuple[str, dict[str, Any]] | None
"""A path of OpenAI's API and what its body says; None: there is nothing to ask."""


@dataclass(frozen=True, slots=True)
class NativeQuestion:
    """What a question in Ollama's API comes to."""

    form: NativeForm
    model: str
    """As the client wrote it, and as the answer names it."""
    asked: Question | None
    """The same in OpenAI's API; None: there is nothing to ask, as where a client only wants a model loaded."""
    done_reason: str = "stop"
    """Of the answer where there is nothing to ask."""


def read_native(question: Question) -> NativeQuestion:
    """Read a question for one of `NATIVE_PATHS`.

    Raises:
        EngineRefused: it is no such question.
    """
    try:
        fields = orjson.loads(question.body)
        if not isinstance(fields, dict):
            raise TypeError("the body must be a JSON object")
        form, model = NativeForm(question.endpoint), fields.get("model")
        if not isinstance(model, str) or not model:
            raise TypeError("model must be a text")
        told = _TOLD[form](fields)
        if told is None:
            return NativeQuestion(form, model, None, "unload" if fields.get("keep_alive") in _UNLOAD else "load")
        path, body = told
        is_stream = question.stream and form is not NativeForm.EMBED
        if form is not NativeForm.EMBED:
            body |= _choices(fields) | {"stream": is_stream}
        asked = replace(
            question,
            endpoint=path,
            stream=is_stream,
            body=orjson.dumps({"model": model} | body),
        )
    except (ValueError, TypeError) as exc:  # JSON that cannot be read, or is too deep to be written again
        failure = Failure(400, "invalid_request", str(exc), type="invalid_request_error")
        raise EngineRefused(failure) from exc
    return NativeQuestion(form, model, asked)


def _chat(fields: Mapping[str, Any]) -> _Told:
    if not fields.get("messages"):
        return None
    tools = {"tools": fields["tools"]} if fields.get("tools") else {}
    return "/v1/chat/completions", {"messages": read_messages(fields["messages"]), **tools}


def _generation(fields: Mapping[str, Any]) -> _Told:
    """As Ollama does, the prompt is put into the model's chat template, unless it is raw."""
    prompt, system, suffix = (_text(fields, name) for name in ("prompt", "system", "suffix"))
    if not prompt:
        return None
    if suffix:  # llama.cpp passes over it, and the answer would be to another question
        raise ValueError("this engine cannot fill a gap: it takes no suffix")
    if fields.get("raw") is True:
        return "/v1/completions", {"prompt": prompt}
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": with_images(prompt, fields.get("images"))})
    return "/v1/chat/completions", {"messages": messages}


def _embedding(fields: Mapping[str, Any]) -> _Told:
    if not fields.get("input"):
        return None
    dimensions = {"dimensions": fields["dimensions"]} if fields.get("dimensions") else {}
    return "/v1/embeddings", {"input": fields["input"], **dimensions}


_TOLD: Mapping[NativeForm, Callable[[Mapping[str, Any]], _Told]] = {
    NativeForm.CHAT: _chat,
    NativeForm.GENERATE: _generation,
    NativeForm.EMBED: _embedding,
}


def _choices(fields: Mapping[str, Any]) -> dict[str, Any]:
    """How the answer is to be chosen: sampling, length, form, thinking."""
    options = fields.get("options") or {}
    if not isinstance(options, dict):
        raise TypeError("options must be an object")
    chosen = {name: options[option] for option, names in _OPTIONS.items() for name in names if _has(options, option)}
    limit = options.get("num_predict")
    if isinstance(limit, int) and limit > 0:  # others mean: as many as the model likes
        chosen["max_tokens"] = limit
    match fields.get("format"):
        case "json":
            chosen["response_format"] = _form_of({"type": "object"})  # LM Studio doesn't know `json_object`
        case dict() as schema if schema:
            chosen["response_format"] = _form_of(schema)
        case None | "" | {}:
            pass
        case _:
            raise TypeError("format must be 'json' or a JSON schema")
    match fields.get("think"):
        case bool() as does_think:
            chosen["chat_template_kwargs"] = {"enable_thinking": does_think}
        case str() as effort if effort:
            chosen["reasoning_effort"] = effort
    for name in ("logprobs", "top_logprobs"):
        if _has(fields, name):
            chosen[name] = fields[name]
    return chosen


def _form_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def _has(fields: Mapping[str, Any], name: str) -> bool:
    """Whether a field says something."""
    return fields.get(name) is not None


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name) or ""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text")
    return value
