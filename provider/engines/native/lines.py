"""What an engine says in OpenAI's form, told in Ollama's: a line for each piece, and a last one with the figures."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from common.wire import Usage
from provider.engines.fields import count
from provider.engines.native.messages import read_calls
from provider.engines.native.questions import NativeForm

NS_PER_MS = 1_000_000
MAX_MS = 1e12
"""More than 30 years: no duration."""
_REASONS = {"length": "length"}
"""Why an answer ended; whatever else OpenAI's form has for it is `stop` in Ollama's."""


class NativeLines:
    """One answer, as it grows. TypeError, ValueError or LookupError where what the engine says has no sense."""

    def __init__(self, form: NativeForm, model: str, began_ns: int) -> None:
        self._form = form
        self._model = model
        self._began_ns = began_ns
        """On the monotonic clock."""
        self._calls: dict[int, dict[str, Any]] = {}
        self._figures: dict[str, int] = {}
        self._finish: str | None = None
        self._has_spoken = False

    @property
    def is_finished(self) -> bool:
        """Whether the engine said why its answer ended."""
        return self._finish is not None

    def piece(self, chunk: Mapping[str, Any]) -> bytes:
        """The lines for one chunk of a stream; empty if it says nothing."""
        content, thinking, logprobs = self._read(chunk)
        if content or thinking or logprobs:
            self._has_spoken = True
            return self._line(content, thinking, logprobs)
        # A long call comes in many pieces and is told as one: meanwhile it must be seen that something comes.
        is_call_growing = bool(self._calls) and self._finish is None
        return self._line("", "", None) if is_call_growing and self._has_spoken else b""

    def ending(self, told: Usage) -> bytes:
        """The last lines: the tool calls, if there are any, and the figures. `told`: those that no chunk brought."""
        self._note(told.prompt_tokens, told.completion_tokens)
        calls = read_calls([self._calls[place] for place in sorted(self._calls)])
        calling = self._line("", "", None, calls) if calls else b""
        return calling + self._dump(self._said("", "", []) | self._end())

    def whole(self, answer: Mapping[str, Any]) -> bytes:
        """The whole answer as one object."""
        if self._form is NativeForm.EMBED:
            return self._embeddings(answer)
        if not answer["choices"]:
            raise LookupError("no choices")
        content, thinking, logprobs = self._read(answer)
        calls = read_calls([self._calls[place] for place in sorted(self._calls)])
        more = {"logprobs": logprobs} if logprobs else {}
        return self._dump(self._said(content, thinking, calls) | more | self._end())

    def nothing(self, reason: str) -> bytes:
        """The answer to a question in which nothing is asked."""
        if self._form is NativeForm.EMBED:
            return orjson.dumps({"model": self._model, "embeddings": []})
        return self._dump(self._said("", "", []) | {"done": True, "done_reason": reason})

    def _read(self, chunk: Mapping[str, Any]) -> tuple[str, str, list[Any] | None]:
        """Words, thoughts and log probabilities of a chunk or of a whole answer; the rest is remembered."""
        self._read_figures(chunk)
        choices = chunk.get("choices") or []
        if not choices:
            return "", "", None
        choice = choices[0]
        said = choice.get("delta") or choice.get("message") or {}
        if (finish := choice.get("finish_reason")) is not None:
            self._finish = str(finish)
        for place, call in enumerate(said.get("tool_calls") or []):
            self._add_call(place, call)
        logprobs = choice.get("logprobs")
        told = logprobs.get("content") if isinstance(logprobs, dict) else None
        content = _words(said, "content") or _words(choice, "text")
        return content, _words(said, "reasoning_content") or _words(said, "reasoning"), told

    def _add_call(self, place: int, piece: Mapping[str, Any]) -> None:
        """A call, or a piece of one: the first has its id and its name, the others more of its arguments."""
        index = piece.get("index")
        call = self._calls.setdefault(index if type(index) is int else place, {"function": {"arguments": ""}})
        function = piece.get("function") or {}
        if piece.get("id"):
            call["id"] = piece["id"]
        if function.get("name"):
            call["function"]["name"] = function["name"]
        arguments = function.get("arguments") or ""
        if isinstance(arguments, dict):
            arguments = orjson.dumps(arguments).decode()
        call["function"]["arguments"] += arguments

    def _read_figures(self, chunk: Mapping[str, Any]) -> None:
        """Tokens, from OpenAI's usage or llama.cpp's timings; durations, which only the latter tell."""
        usage, timings = chunk.get("usage"), chunk.get("timings")
        prompt_n = count(timings, "prompt_n")
        told = {
            "prompt_eval_duration": _ns(timings, "prompt_ms"),
            "eval_duration": _ns(timings, "predicted_ms"),
        }
        self._figures |= {name: value for name, value in told.items() if value is not None}
        prompt = None if prompt_n is None else prompt_n + (count(timings, "cache_n") or 0)
        self._note(prompt, count(timings, "predicted_n"))
        self._note(count(usage, "prompt_tokens"), count(usage, "completion_tokens"))

    def _note(self, prompt: int | None, answer: int | None) -> None:
        """Tokens, as far as they are known."""
        told = {"prompt_eval_count": prompt, "eval_count": answer}
        self._figures |= {name: value for name, value in told.items() if value is not None}

    def _embeddings(self, answer: Mapping[str, Any]) -> bytes:
        self._read_figures(answer)
        rows = sorted(answer["data"], key=lambda row: row.get("index", 0))
        vectors = [row["embedding"] for row in rows]
        if not all(isinstance(vector, list) for vector in vectors):
            raise TypeError("an embedding is no list of numbers")
        counted = {name: value for name, value in self._figures.items() if name == "prompt_eval_count"}
        return self._dump({"model": self._model, "embeddings": vectors, "total_duration": self._took_ns()} | counted)

    def _line(
        self, content: str, thinking: str, logprobs: list[Any] | None, calls: list[dict[str, Any]] | None = None
    ) -> bytes:
        more = {"logprobs": logprobs} if logprobs else {}
        return self._dump(self._said(content, thinking, calls or []) | more) + b"\n"

    def _said(self, content: str, thinking: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
        head = {"model": self._model, "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z")}
        more: dict[str, Any] = {"thinking": thinking} if thinking else {}
        if self._form is NativeForm.GENERATE:
            return {**head, "response": content, **more, "done": False}
        if calls:
            more["tool_calls"] = calls
        return {**head, "message": {"role": "assistant", "content": content, **more}, "done": False}

    def _end(self) -> dict[str, Any]:
        reason = _REASONS.get(self._finish or "", "stop")
        return {"done": True, "done_reason": reason, "total_duration": self._took_ns(), **self._figures}

    def _took_ns(self) -> int:
        return time.monotonic_ns() - self._began_ns

    def _dump(self, fields: dict[str, Any]) -> bytes:
        return orjson.dumps(fields)


def _words(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name) or ""
    if not isinstance(value, str):
        raise TypeError(f"{name} is not text")
    return value


def _ns(timings: object, name: str) -> int | None:
    value = timings.get(name) if isinstance(timings, dict) else None
    return int(value * NS_PER_MS) if isinstance(value, int | float) and 0 <= value < MAX_MS else None
