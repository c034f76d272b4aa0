"""When an answer that has begun cannot be gone on with, and how its client hears of it."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from common.wire import CANNOT_CONTINUE, EntryId, Failure, Job, ReplyEntry, Start
from provider.continuing.finding import find_seam
from provider.continuing.obstacles import SENTENCES, Obstacle, cannot_continue
from provider.errors import EngineFailed
from tests.unit.continued import Telling, a_job
from tests.unit.engine_script import EVENTS, NODE
from tests.unit.engine_words import CHAT, COMPLETIONS, GENERATE, NATIVE_CHAT, WordsOf, engine_of

LINES = "application/x-ndjson"
BEGUN = {
    CHAT: b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}\n\n',
    COMPLETIONS: b'data: {"id":"1","choices":[{"index":0,"text":"Hi","finish_reason":null}]}\n\n',
    NATIVE_CHAT: b'{"model":"m","message":{"role":"assistant","content":"Hi"},"done":false}\n',
    GENERATE: b'{"model":"m","response":"Hi","done":false}\n',
}


def failed_by(job: Job, data: bytes, content_type: str = "") -> Failure | None:
    """Why this beginning cannot be gone on with; None if it can."""
    known = LINES if job.endpoint.startswith("/api/") else EVENTS
    begun = ReplyEntry(start=Start(200, content_type or known, NODE), data=data)
    try:
        find_seam(replace(job, attempt=2), NODE, [(EntryId(1, 0), ReplyEntry(claim=NODE)), (EntryId(1, 1), begun)])
    except EngineFailed as exc:
        return exc.failure
    return None


def is_hindered(failure: Failure | None, obstacle: Obstacle) -> bool:
    """Whether it was this that made it impossible."""
    return failure == cannot_continue(obstacle).failure


@pytest.mark.parametrize("endpoint", BEGUN)
def test_plain_text_can_be_gone_on_with_in_every_api(endpoint: str) -> None:
    assert failed_by(a_job(endpoint), BEGUN[endpoint]) is None


@pytest.mark.parametrize(
    ("endpoint", "fields", "obstacle"),
    [
        (CHAT, {"n": 2}, Obstacle.SEVERAL),
        (COMPLETIONS, {"best_of": 3}, Obstacle.SEVERAL),
        (COMPLETIONS, {"prompt": ["a", "b"]}, Obstacle.PROMPTS),
        (COMPLETIONS, {"prompt": [1, 2, 3]}, Obstacle.PROMPTS),
        (COMPLETIONS, {"prompt": [[1, 2, 3]]}, Obstacle.PROMPTS),
        (CHAT, {"logprobs": True}, Obstacle.LOGPROBS),
        (COMPLETIONS, {"logprobs": 0}, Obstacle.LOGPROBS),
        (NATIVE_CHAT, {"top_logprobs": 3}, Obstacle.LOGPROBS),
        (COMPLETIONS, {"echo": True}, Obstacle.ECHO),
        (COMPLETIONS, {"suffix": "}"}, Obstacle.SUFFIX),
        (GENERATE, {"suffix": "}"}, Obstacle.SUFFIX),
        (GENERATE, {"context": [1, 2]}, Obstacle.CONTEXT),
        (CHAT, {"response_format": {"type": "json_object"}}, Obstacle.STRUCTURE),
        (CHAT, {"response_format": {"type": "json_schema", "json_schema": {}}}, Obstacle.STRUCTURE),
        (NATIVE_CHAT, {"format": "json"}, Obstacle.STRUCTURE),
        (GENERATE, {"format": {"type": "object"}}, Obstacle.STRUCTURE),
        (CHAT, {"grammar": 'root ::= "x"'}, Obstacle.STRUCTURE),
        (COMPLETIONS, {"json_schema": {"type": "object"}}, Obstacle.STRUCTURE),
        (CHAT, {"guided_choice": ["a", "b"]}, Obstacle.STRUCTURE),
        (CHAT, {"structured_outputs": {"regex": "a+"}}, Obstacle.STRUCTURE),
    ],
)
def test_what_was_asked_for_may_make_it_impossible(endpoint: str, fields: dict[str, Any], obstacle: Obstacle) -> None:
    assert is_hindered(failed_by(a_job(endpoint, **fields), BEGUN[endpoint]), obstacle)


@pytest.mark.parametrize(
    ("endpoint", "fields"),
    [
        (CHAT, {"n": 1, "logprobs": False, "response_format": {"type": "text"}, "tools": [{"type": "function"}]}),
        (COMPLETIONS, {"best_of": 1, "echo": False, "suffix": "", "prompt": ["one"], "guided_decoding_backend": "x"}),
        (NATIVE_CHAT, {"format": "", "think": False, "keep_alive": "5m"}),
        (GENERATE, {"context": [], "suffix": "", "system": "Be brief.", "template": "for some engines only"}),
    ],
)
def test_what_changes_nothing_is_no_obstacle(endpoint: str, fields: dict[str, Any]) -> None:
    assert failed_by(a_job(endpoint, **fields), BEGUN[endpoint]) is None


@pytest.mark.parametrize(
    ("said", "obstacle"),
    [
        ({"tool_calls": [{"index": 0, "function": {"name": "f"}}]}, Obstacle.TOOL_CALLS),
        ({"function_call": {"name": "f"}}, Obstacle.TOOL_CALLS),
        ({"reasoning_content": "hm"}, Obstacle.REASONING),
        ({"reasoning": "hm"}, Obstacle.REASONING),
        ({"thinking": "hm"}, Obstacle.REASONING),
        ({"refusal": "no"}, Obstacle.REFUSAL),
        ({"audio": {"id": "a"}}, Obstacle.AUDIO),
        ({"content": [{"type": "text", "text": "parts"}]}, Obstacle.FORM),
    ],
)
@pytest.mark.parametrize("endpoint", [CHAT, NATIVE_CHAT])
def test_what_was_said_may_make_it_impossible(endpoint: str, said: dict[str, Any], obstacle: Obstacle) -> None:
    choice = {"index": 0, "delta": said, "finish_reason": None}
    data = (
        b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n"
        if endpoint == CHAT
        else orjson.dumps({"message": said, "done": False}) + b"\n"
    )
    assert is_hindered(failed_by(a_job(endpoint), BEGUN[endpoint] + data), obstacle)


@pytest.mark.parametrize(
    ("choice", "obstacle"),
    [
        ({"index": 1, "delta": {"content": "Hi"}}, Obstacle.SEVERAL),
        ({"index": 0, "delta": {"content": "Hi"}, "logprobs": {"content": [{}]}}, Obstacle.LOGPROBS),
    ],
)
def test_more_than_was_asked_for_makes_it_impossible_too(choice: dict[str, Any], obstacle: Obstacle) -> None:
    assert is_hindered(failed_by(a_job(CHAT), b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n"), obstacle)


@pytest.mark.parametrize("endpoint", BEGUN)
def test_thoughts_that_an_engine_leaves_in_the_text_are_not_gone_on_with(endpoint: str) -> None:
    assert is_hindered(failed_by(a_job(endpoint), BEGUN[endpoint].replace(b"Hi", b"\\n<think>Hi")), Obstacle.REASONING)


def test_one_of_several_answers_that_has_ended_is_not_the_end_of_all() -> None:
    ended = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    assert is_hindered(failed_by(a_job(CHAT, n=2), BEGUN[CHAT] + ended), Obstacle.SEVERAL)


@pytest.mark.parametrize("endpoint", ["/v1/responses", "/v1/messages", "/v1/embeddings"])
def test_answers_of_other_apis_are_not_gone_on_with(endpoint: str) -> None:
    assert is_hindered(failed_by(replace(a_job(CHAT), endpoint=endpoint), BEGUN[CHAT]), Obstacle.API)


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        *((endpoint, said) for endpoint in BEGUN for said in (b"{", b"[]")),
        *((endpoint, b'{"choices":5}') for endpoint in (CHAT, COMPLETIONS)),
        (CHAT, b'{"choices":[{"delta":{"content":5}}]}'),
        (CHAT, b'{"choices":[{"delta":5}]}'),
        (COMPLETIONS, b'{"choices":[{"text":5}]}'),
        (NATIVE_CHAT, b'{"message":5}'),
        (GENERATE, b'{"response":5}'),
    ],
)
def test_what_cannot_be_read_is_not_gone_on_with(endpoint: str, said: bytes) -> None:
    data = said + b"\n" if endpoint.startswith("/api/") else b"data: %b\n\n" % said
    assert is_hindered(failed_by(a_job(endpoint), data), Obstacle.FORM)


def test_a_whole_answer_to_whom_a_stream_was_asked_of_is_not_gone_on_with() -> None:
    assert is_hindered(failed_by(a_job(CHAT), b'{"choices":', "application/json"), Obstacle.FORM)


@pytest.mark.parametrize("body", [b"{", b"[]", b"5"])
def test_a_request_that_cannot_be_read_is_not_gone_on_with(body: bytes) -> None:
    assert is_hindered(failed_by(replace(a_job(CHAT), body=body), BEGUN[CHAT]), Obstacle.FORM)


@pytest.mark.parametrize("kind", ["openai", "lmstudio"])
@pytest.mark.parametrize("endpoint", [CHAT, NATIVE_CHAT, GENERATE])
def test_an_engine_that_goes_on_with_no_chat_leaves_it_to_another_node(kind: str, endpoint: str) -> None:
    words = WordsOf(kind)
    telling = Telling(a_job(endpoint)).go_on(engine_of(WordsOf("llamacpp", 4))).go_on(engine_of(words))
    assert words.asked == []
    assert telling.failed is not None
    assert telling.failed.failure == cannot_continue(Obstacle.NO_PREFILL).failure
    assert telling.failed.failure.retryable
    assert telling.go_on(engine_of(WordsOf("vllm"))).failed is None


def test_a_template_of_the_client_s_own_keeps_ollama_from_going_on() -> None:
    job = a_job(GENERATE, template="{{ .Prompt }}")
    telling = Telling(job).go_on(engine_of(WordsOf("ollama", 3))).go_on(engine_of(WordsOf("ollama")))
    assert telling.failed is not None
    assert is_hindered(telling.failed.failure, Obstacle.TEMPLATE)


def test_a_chat_that_ends_with_something_to_look_at_is_not_gone_on_with() -> None:
    last = {"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}
    job = a_job(CHAT, messages=[{"role": "user", "content": "count"}, last])
    telling = Telling(job).go_on(engine_of(WordsOf("llamacpp", 3))).go_on(engine_of(WordsOf("llamacpp")))
    assert telling.failed is not None
    assert is_hindered(telling.failed.failure, Obstacle.FORM)


@pytest.mark.parametrize("obstacle", Obstacle)
def test_every_obstacle_has_its_words_and_only_one_of_an_engine_is_worth_another_try(obstacle: Obstacle) -> None:
    failure = cannot_continue(obstacle, "said so").failure
    assert (failure.status, failure.code) == (502, CANNOT_CONTINUE)
    assert f"({obstacle})" in failure.message
    assert failure.message.endswith(f"{SENTENCES[obstacle]}: said so")
    assert failure.retryable == (obstacle is Obstacle.NO_PREFILL)
