"""The hub's OpenAI API, as a conversation uses it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from ghub.chat.errors import AnswerFailed
from ghub.chat.pieces import Piece, read_pieces
from ghub.client.answers import json_object, refusal

CONNECT_TIMEOUT_S = 10.0
SILENCE_S = 120.0
"""A hub has something to say every few seconds, be it a comment: one that is silent for so long is gone."""
_NOBODY_THERE = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.InvalidURL, httpx2.UnsupportedProtocol)
AFTERWARDS_S = 2.0
"""How long is waited for what is nice to know only."""
_STREAMED = {"stream": True, "stream_options": {"include_usage": True}}
ADVICE = "set GHUB_API_KEY, or use --api-key-file; `ghub key create` makes a key"


@dataclass(frozen=True, slots=True)
class Answer:
    """One that has begun."""

    request: str
    """Its id at the hub; empty if it doesn't tell."""
    node: str
    pieces: Iterator[Piece] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a request, as far as the hub tells."""

    node: str = ""
    attempt: int = 1


class ChatApi:
    """One hub. Every call raises AnswerFailed, in one line, if it does not go well."""

    def __init__(self, url: str, key: str | None, *, timeout_s: float = SILENCE_S) -> None:
        self.url = url
        headers = {"authorization": f"Bearer {key}"} if key else {}
        timeout = httpx2.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))
        self._client = httpx2.Client(timeout=timeout, trust_env=False, headers=headers)

    def models(self) -> list[str]:
        """Names of the models that this key may use."""
        return sorted(str(one["id"]) for one in self._list("/v1/models", "data") if "id" in one)

    def loaded(self) -> list[str]:
        """Names of those that are in some node's memory now."""
        return [str(one["name"]) for one in self._list("/api/ps", "models") if "name" in one]

    @contextmanager
    def answering(self, body: Mapping[str, Any]) -> Iterator[Answer]:
        """Ask, and read while it is said. To leave early cancels the request: its connection is closed."""
        url = f"{self.url}/v1/chat/completions"
        try:
            with self._client.stream("POST", url, json={**body, **_STREAMED}) as answer:
                if not answer.is_success:
                    answer.read()
                    raise self._refusal(answer)
                headers = answer.headers
                yield Answer(
                    headers.get("x-request-id", ""), headers.get("x-ghub-node", ""), read_pieces(answer.iter_raw())
                )
        except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
            raise self._lost(exc) from exc

    def fate(self, request: str) -> Fate:
        """How a request went; what is not known is left out, and nothing is raised."""
        try:
            told = self._client.get(f"{self.url}/v1/requests/{request}", timeout=AFTERWARDS_S).json()
            return Fate(str(told.get("node") or ""), int(told.get("attempt") or 1))
        except (httpx2.HTTPError, ValueError, TypeError, AttributeError):
            return Fate()

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def _list(self, path: str, name: str) -> list[dict[str, Any]]:
        try:
            answer = self._client.get(f"{self.url}{path}")
        except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
            raise self._lost(exc) from exc
        if not answer.is_success:
            raise self._refusal(answer)
        told = (json_object(answer) or {}).get(name)
        return [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []

    def _refusal(self, answer: httpx2.Response) -> AnswerFailed:
        error = refusal(answer)
        if error is None:
            return AnswerFailed(f"what answers at {self.url} is no hub (status {answer.status_code})")
        advice = f" ({ADVICE})" if answer.status_code == httpx2.codes.UNAUTHORIZED else ""
        return AnswerFailed(f"the hub refuses: {error.message}{advice}")

    def _lost(self, exc: Exception) -> AnswerFailed:
        why = str(exc) or type(exc).__name__
        if isinstance(exc, _NOBODY_THERE):
            return AnswerFailed(f"no hub answers at {self.url}: {why}")
        return AnswerFailed(f"the hub at {self.url} is gone in the middle of it: {why}")
