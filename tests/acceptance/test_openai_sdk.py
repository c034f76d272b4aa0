"""The real openai-python against the real stack: what a user's code does with nothing changed but the URL."""

import json
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.acceptance.conftest import RealGrid
from tests.support import late
from tests.support.llamacpp import MODEL
from tests.support.openai_schema import assert_is
from tests.support.processes import until

pytestmark = pytest.mark.acceptance

QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
SURE: dict[str, Any] = {"temperature": 0, "extra_body": {"cache_prompt": False}}
"""Said twice, it comes out the same."""
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
LONG: list[Any] = [{"role": "user", "content": "Count from 1 to 1000, one number a line."}]


def test_a_chat_streams_token_by_token(client: "late.openai.OpenAI") -> None:
    chunks = [
        *client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True, max_tokens=24, temperature=0)
    ]
    assert len(chunks) > 10
    whole = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=24, **SURE)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said
    assert said == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_a_stream_reports_usage_when_asked(client: "late.openai.OpenAI") -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        stream=True,
        max_tokens=8,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    last = [*stream][-1]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 8


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", {"max_tokens": 24}),
        ("chat/completions", {"max_tokens": 400, "stop": ["Paris", "the", "e"]}),
        ("chat/completions", {"max_tokens": 2, "stop": ["L", "T", "The"]}),
        ("chat/completions", {"max_tokens": 6, "logprobs": True, "top_logprobs": 2, "n": 1}),
        ("chat/completions", {"max_tokens": 4, "n": 2}),
        ("chat/completions", {"max_tokens": 30, "response_format": {"type": "json_object"}}),
        ("chat/completions", {"max_tokens": 8, "tools": [TOOL], "logprobs": True}),
        ("chat/completions", {"max_tokens": 4, "verbose": True, "timings_per_token": True}),
        ("completions", {"prompt": "Once upon a time", "max_tokens": 12}),
        ("completions", {"prompt": "Once upon a time", "max_tokens": 4, "logprobs": 1}),
        ("completions", {"prompt": ["Once upon a time", "The cat"], "max_tokens": 4}),
        ("chat/completions", {"max_tokens": 4, "top_k": "many"}),
        ("chat/completions", {"messages": [{"role": "user", "content": "word " * 20_000}]}),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(value),
)
def test_a_whole_answer_is_the_engine_s_own(path: str, body: dict[str, Any], real_grid: RealGrid) -> None:
    body = {"model": MODEL, "temperature": 0, "seed": 1, "cache_prompt": False} | body
    if "prompt" not in body:
        body = {"messages": QUESTION} | body
    own = httpx2.post(f"{real_grid.engine_url}/v1/{path}", json=body, timeout=60)
    ours = httpx2.post(f"{real_grid.hub_url}/v1/{path}", json=body, timeout=60)
    assert ours.status_code == own.status_code
    if own.status_code == 200:
        assert ours.headers["content-type"] == own.headers["content-type"]
        assert _timeless(ours.json()) == _timeless(own.json())
    else:
        assert ours.json()["error"]["message"] == own.json()["error"]["message"]


def _timeless(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs each time, but for whether it is there."""
    verbose = answer.pop("__verbose", {})
    said = {name: verbose.get(name) for name in ("content", "tokens", "stop_type", "prompt")}
    return answer | {name: type(answer[name]) for name in ("id", "created", "timings")} | {"__verbose": said}


def test_completions_stream_and_come_whole(client: "late.openai.OpenAI") -> None:
    whole = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=12, temperature=0)
    streamed = client.completions.create(
        model=MODEL, prompt="Once upon a time", max_tokens=12, temperature=0, stream=True
    )
    assert whole.choices[0].text
    assert "".join(chunk.choices[0].text for chunk in streamed) == whole.choices[0].text


def test_a_grammar_passes_through_to_the_engine(client: "late.openai.OpenAI") -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Give me a person."}],
        max_tokens=60,
        temperature=0,
        response_format={
            "type": "json_schema",
            "json_schema": {
                "name": "person",
                "schema": {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]},
            },
        },
    )
    assert isinstance(json.loads(answer.choices[0].message.content or "")["age"], int)


def test_models_are_listed_and_described(client: "late.openai.OpenAI") -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).object == "model"
    with pytest.raises(late.openai.NotFoundError):
        client.models.retrieve("nobody/has:this")


def test_an_unknown_model_is_the_sdk_s_not_found_error(client: "late.openai.OpenAI") -> None:
    with pytest.raises(late.openai.NotFoundError) as caught:
        client.chat.completions.create(model="nobody/has:this", messages=QUESTION)
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"


@pytest.mark.parametrize(
    ("wrong", "param"),
    [({"messages": "hi"}, "messages"), ({"max_tokens": "many"}, "max_tokens"), ({"messages": []}, "messages")],
)
def test_wrong_types_are_bad_request_errors_that_name_the_field(
    client: "late.openai.OpenAI", wrong: dict[str, Any], param: str
) -> None:
    with pytest.raises(late.openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=QUESTION, extra_body=wrong)
    assert caught.value.param == param
    assert isinstance(caught.value.code, str)


def test_what_only_the_engine_refuses_is_a_bad_request_in_openai_s_shape(client: "late.openai.OpenAI") -> None:
    with pytest.raises(late.openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": 5}])  # type: ignore[typeddict-item,misc,list-item]
    assert isinstance(caught.value.code, str)
    assert caught.value.type == "invalid_request_error"


def test_a_prompt_longer_than_the_context_is_refused_even_on_a_stream(client: "late.openai.OpenAI") -> None:
    long: list[Any] = [{"role": "user", "content": "word " * 20_000}]
    with pytest.raises(late.openai.BadRequestError):
        client.chat.completions.create(model=MODEL, messages=long, stream=True, max_tokens=5)


def test_headers_tell_the_request_its_node_and_its_attempt(client: "late.openai.OpenAI") -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=QUESTION, max_tokens=3)
    assert len(raw.headers["x-request-id"]) == 32
    assert raw.headers["x-ghub-node"] == "llama"
    assert raw.headers["x-ghub-attempt"] == "1"
    assert int(raw.headers["x-ghub-queue-ms"]) >= 0


def test_closing_a_stream_frees_the_slot_within_a_second(
    client: "late.openai.OpenAI", real_grid: RealGrid, idle: Callable[[float], None]
) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=LONG, stream=True, max_tokens=2000, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    assert real_grid.busy_slots() == 1
    stream.close()
    idle(1.0)


def test_giving_up_on_a_whole_answer_frees_the_slot_within_a_second(
    client: "late.openai.OpenAI", real_grid: RealGrid, idle: Callable[[float], None]
) -> None:
    with pytest.raises(late.openai.APITimeoutError):
        client.with_options(timeout=1.0).chat.completions.create(
            model=MODEL, messages=LONG, max_tokens=2000, extra_body={"ignore_eos": True}
        )
    idle(1.0)
    until(lambda: real_grid.running() == 0, 1.0, "the job still runs")


def test_giving_up_on_a_whole_answer_frees_its_slot_while_another_streams(
    client: "late.openai.OpenAI", real_grid: RealGrid
) -> None:
    other = client.chat.completions.create(
        model=MODEL, messages=LONG, stream=True, max_tokens=2000, extra_body={"ignore_eos": True}
    )
    next(iter(other))
    with pytest.raises(late.openai.APITimeoutError):
        client.with_options(timeout=1.0).chat.completions.create(
            model=MODEL, messages=LONG, max_tokens=2000, extra_body={"ignore_eos": True}
        )
    until(lambda: real_grid.busy_slots() == 1, 1.0, "the slot is still busy")
    other.close()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_during_the_prefill_frees_the_slot(
    stream: bool, client: "late.openai.OpenAI", real_grid: RealGrid, idle: Callable[[float], None]
) -> None:
    long: list[Any] = [{"role": "user", "content": f"{stream} " * 6000}]
    with pytest.raises(late.openai.APITimeoutError):
        client.with_options(timeout=1.0).chat.completions.create(model=MODEL, messages=long, stream=stream)
    until(lambda: real_grid.running() == 0, 1.0, "the job still runs")
    time.sleep(1.5 if stream else 0)  # llama.cpp looks up from the prefill of a stream after a second of quiet
    idle(12)  # a batch, on a slow and busy machine; to read all of it would take three times as long


def test_the_third_of_two_slots_waits_and_is_then_served(client: "late.openai.OpenAI", real_grid: RealGrid) -> None:
    streams = [
        client.chat.completions.create(
            model=MODEL, messages=LONG, stream=True, max_tokens=2000, extra_body={"ignore_eos": True}
        )
        for _ in range(2)
    ]
    for stream in streams:
        next(iter(stream))
    until(lambda: real_grid.busy_slots() == 2, 5, "two slots busy")
    third = client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True, max_tokens=5, temperature=0)
    for stream in streams:
        stream.close()
    assert len([*third]) > 3


def test_models_and_errors_are_of_openai_s_published_schema(client: "late.openai.OpenAI") -> None:
    assert_is("ListModelsResponse", client.models.with_raw_response.list().http_response.json())
    error = httpx2.post(f"{client.base_url}chat/completions", json={"model": "none", "messages": QUESTION}).json()
    assert_is("ErrorResponse", error)
