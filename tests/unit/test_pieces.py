"""A whole answer that was asked for in pieces is the one the engine would have given."""

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.wire import Failure
from provider.engines.pieces import PiecedAnswer, in_pieces
from provider.errors import EngineBroke, EngineFailed, EngineFull
from provider.protocol.engine import Question
from tests.unit.engine_script import ScriptedAnswer, Step, a_job

TOP = {"created": 7, "id": "chatcmpl-1", "model": "m", "system_fingerprint": "b1"}
USAGE = {"usage": {"completion_tokens": 3, "prompt_tokens": 2, "total_tokens": 5}, "timings": {"predicted_n": 3}}
LOGPROB = {"id": 60, "token": "L", "bytes": [76], "logprob": -1.8, "top_logprobs": []}
DONE = b"data: [DONE]\n\n"


def _event(chunk: object) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def _chat(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"finish_reason": finish, "index": 0, "delta": delta, **more}
    return _event({"choices": [choice], **TOP, "object": "chat.completion.chunk"})


OPENING = _chat({"role": "assistant", "content": None})
CHAT_END = _chat({}, "length")
CHAT_USAGE = _event({"choices": [], **TOP, "object": "chat.completion.chunk", **USAGE})


def _text(text: str, finish: str | None = None, logprobs: object = None, **more: Any) -> bytes:
    choice = {"text": text, "index": 0, "logprobs": logprobs, "finish_reason": finish}
    return _event({"choices": [choice], **TOP, "object": "text_completion", **more})


def _whole(steps: list[Step]) -> dict[str, Any]:
    async def read() -> bytes:
        answer = PiecedAnswer(ScriptedAnswer(steps), 10_000)
        return b"".join([chunk async for chunk in answer.chunks()])

    answer = orjson.loads(asyncio.run(read()))
    assert isinstance(answer, dict)
    return answer


@given(
    st.lists(st.tuples(st.sampled_from(["content", "reasoning_content"]), st.text()), max_size=8),
    st.booleans(),
    st.lists(st.floats(0, 1), max_size=12).map(sorted),
)
def test_a_chat_is_put_together_however_it_is_cut(
    said: list[tuple[str, str]], has_logprobs: bool, cuts: list[float]
) -> None:
    more = {"logprobs": {"content": [LOGPROB]}} if has_logprobs else {}
    stream = OPENING + b"".join(_chat({name: text}, **more) for name, text in said) + CHAT_END + CHAT_USAGE + DONE
    places = [0, *(int(cut * len(stream)) for cut in cuts), len(stream)]
    message = {"role": "assistant", "content": "".join(text for name, text in said if name == "content")}
    if reasoning := [text for name, text in said if name == "reasoning_content"]:
        message["reasoning_content"] = "".join(reasoning)
    choice: dict[str, Any] = {"finish_reason": "length", "index": 0, "message": message}
    if has_logprobs and said:
        choice["logprobs"] = {"content": [LOGPROB] * len(said)}
    whole = _whole([stream[start:end] for start, end in pairwise(places)])
    assert whole == {"choices": [choice], **TOP, "object": "chat.completion", **USAGE}


def test_a_text_is_put_together() -> None:
    pieces = [_event(None), _text(" the"), _text(" end", logprobs={"content": [LOGPROB]}), _text("", "stop", **USAGE)]
    choice = {"text": " the end", "index": 0, "logprobs": {"content": [LOGPROB]}, "finish_reason": "stop"}
    assert _whole([*pieces, DONE]) == {"choices": [choice], **TOP, "object": "text_completion", **USAGE}
    assert _whole([_text("", "stop")])["choices"][0] == choice | {"text": "", "logprobs": None}


def test_progress_and_comments_are_not_part_of_the_answer() -> None:
    progress = OPENING.replace(b'"object"', b'"prompt_progress":{"total":37,"processed":0},"object"')
    assert _whole([progress, b": ping\n\n", OPENING, CHAT_END]) == _whole([OPENING, CHAT_END])


@pytest.mark.parametrize(
    ("steps", "failure"),
    [
        ([OPENING, _chat({"content": "hi"})], Failure(502, "engine_disconnected", "", retryable=True)),
        ([DONE], Failure(502, "engine_disconnected", "", retryable=True)),
        ([_event({"hello": 1})], Failure(502, "engine_bad_answer", "", retryable=True)),
        ([_event([1, 2])], Failure(502, "engine_bad_answer", "", retryable=True)),
        ([b"data: {\n\n"], Failure(502, "engine_bad_answer", "", retryable=True)),
        ([_chat({"content": ["hi"]})], Failure(502, "engine_bad_answer", "", retryable=True)),
        ([OPENING, _event({"error": {"code": 503, "message": "no slot"}})], Failure(503, "engine_unavailable", "")),
        ([OPENING, _event({"error": {"code": 400, "message": "too long"}})], Failure(400, "invalid_request", "")),
    ],
    ids=["cut-off", "empty", "no-choices", "a-list", "no-json", "not-text", "error", "refusal"],
)
def test_a_stream_that_goes_wrong_is_a_failure(steps: list[Step], failure: Failure) -> None:
    with pytest.raises(EngineFailed) as caught:
        _whole(steps)
    assert (caught.value.failure.status, caught.value.failure.code) == (failure.status, failure.code)


def test_a_model_that_does_not_fit_is_no_failure_of_the_job() -> None:
    """Of a whole answer nothing was said before its end."""
    with pytest.raises(EngineFull):
        _whole([OPENING, _chat({"content": "hi"}), _event({"error": {"code": 500, "message": "CUDA out of memory"}})])


def test_a_connection_that_breaks_is_told_as_it_is() -> None:
    gone = EngineBroke(Failure(502, "engine_disconnected", "gone", retryable=True))
    with pytest.raises(EngineBroke) as caught:
        _whole([OPENING, gone])
    assert caught.value is gone


def _asked(body: bytes, endpoint: str = "/v1/chat/completions", *, stream: bool = False) -> Question | None:
    return in_pieces(Question.of(replace(a_job(stream=stream), endpoint=endpoint, body=body)))


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/completions"])
def test_the_question_stays_what_it_was_but_for_the_stream(endpoint: str) -> None:
    question = {"model": "m", "messages": [{"role": "user", "content": "é"}], "n": 1, "seed": 2**63, "new": {"a": [1]}}
    job = _asked(orjson.dumps(question | {"stream": False}), endpoint)
    assert job is not None
    streamed = {"stream": True, "stream_options": {"include_usage": True}, "return_progress": True}
    assert orjson.loads(job.body) == question | streamed


@pytest.mark.parametrize(
    "question",
    [
        {"n": 2},
        {"best_of": 3},
        {"prompt": ["a", "b"]},
        {"prompt": [1, 2, 3]},
        {"tools": [{"type": "function"}]},
        {"verbose": True},
        {"n": "2"},
    ],
    ids=str,
)
def test_what_would_not_be_the_same_is_asked_for_whole(question: dict[str, Any]) -> None:
    assert _asked(orjson.dumps({"model": "m"} | question)) is None


def test_a_stream_and_other_endpoints_are_asked_as_they_are() -> None:
    assert _asked(b"{}") is not None
    assert _asked(b"{}", stream=True) is None
    assert _asked(b"{}", "/v1/embeddings") is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a": "\\ud800"}'])
def test_what_is_not_understood_is_asked_as_it_is(body: bytes) -> None:
    assert _asked(body) is None
