"""The doubles of particular engines: what a mistake in them would hide from the tests of the adapters."""

from collections.abc import Iterator
from typing import Any

import httpx2
import orjson
import pytest

from tests.doubles.cases import question
from tests.doubles.models import Model
from tests.doubles.process import EngineProcess
from tests.doubles.reading import events_in, numbered

COMPLETIONS = "/v1/completions"
MODEL = Model("tiny", size_bytes=4321, digest="ef" * 32)


@pytest.fixture(scope="module")
def doubles() -> Iterator[dict[str, EngineProcess]]:
    started = {kind: EngineProcess(kind=kind, models=[MODEL]) for kind in ("ollama", "vllm", "llamacpp", "lmstudio")}
    try:
        for double in started.values():
            double.start()
        yield started
    finally:
        for double in started.values():
            double.stop()


def _ask(engine: EngineProcess, endpoint: str, **fields: Any) -> httpx2.Response:
    body = orjson.loads(question(endpoint, model=MODEL.name).body)
    kept = {name: value for name, value in {**body, **fields}.items() if value is not None}
    return httpx2.post(engine.url + endpoint, json=kept, timeout=5, trust_env=False)


def _get(engine: EngineProcess, path: str) -> httpx2.Response:
    return httpx2.get(engine.url + path, timeout=5, trust_env=False)


def test_ollama_streams_lines_of_json_unless_told_not_to(doubles: dict[str, EngineProcess]) -> None:
    answer = _ask(doubles["ollama"], "/api/chat", stream=None)
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [orjson.loads(line) for line in answer.text.splitlines()]
    assert "".join(line["message"]["content"] for line in lines) == numbered(0, 5)
    assert [line["done"] for line in lines] == [False] * 5 + [True]
    last = lines[-1]
    assert (last["done_reason"], last["prompt_eval_count"], last["eval_count"]) == ("length", 3, 5)
    assert last["total_duration"] > last["load_duration"] > 0
    whole = _ask(doubles["ollama"], "/api/generate", stream=False)
    assert whole.headers["content-type"].startswith("application/json")
    assert (whole.json()["response"], whole.json()["context"]) == (numbered(0, 5), [*range(8)])


def test_ollama_says_in_every_piece_of_a_chat_whose_turn_it_is(doubles: dict[str, EngineProcess]) -> None:
    events = events_in(_ask(doubles["ollama"], "/v1/chat/completions", stream=True).text)
    assert [event["choices"][0]["delta"]["role"] for event in events] == ["assistant"] * 6
    assert events[0]["choices"][0]["delta"]["content"] == "t0 "


def test_ollama_tells_of_an_error_in_mid_answer_in_a_line(doubles: dict[str, EngineProcess]) -> None:
    lines = _ask(doubles["ollama"], "/api/chat", stream=True, double={"error_event_after": 2}).text.splitlines()
    assert len(lines) == 3
    assert set(orjson.loads(lines[-1])) == {"error"}


def test_ollama_s_errors_have_the_form_of_the_api_they_come_by(doubles: dict[str, EngineProcess]) -> None:
    native = _ask(doubles["ollama"], "/api/chat", model="nobody")
    openai = _ask(doubles["ollama"], "/v1/chat/completions", model="nobody")
    assert (native.status_code, native.json()) == (404, {"error": "model 'nobody' not found"})
    error = {"message": "model 'nobody' not found", "type": "not_found_error", "param": None, "code": None}
    assert (openai.status_code, openai.json()) == (404, {"error": error})


def test_ollama_lists_what_is_on_disk_and_what_is_in_memory() -> None:
    with EngineProcess(kind="ollama", models=[MODEL]) as ollama:
        (listed,) = _get(ollama, "/api/tags").json()["models"]
        assert (listed["name"], listed["size"], listed["digest"]) == ("tiny:latest", MODEL.size_bytes, MODEL.digest)
        assert _get(ollama, "/api/ps").json() == {"models": []}
        loading = _ask(ollama, "/api/generate", prompt=None).json()
        assert (loading["response"], loading["done"], loading["done_reason"]) == ("", True, "load")
        (loaded,) = _get(ollama, "/api/ps").json()["models"]
        assert (loaded["name"], loaded["size_vram"]) == ("tiny:latest", MODEL.size_bytes)
        assert httpx2.head(ollama.url, timeout=5, trust_env=False).status_code == 200


def test_ollama_writes_down_who_would_change_it() -> None:
    with EngineProcess(kind="ollama", models=[MODEL]) as ollama:
        httpx2.request("DELETE", f"{ollama.url}/api/delete", json={"model": "tiny"}, timeout=5, trust_env=False)
        httpx2.post(f"{ollama.url}/api/pull", json={"model": "tiny"}, timeout=5, trust_env=False)
        assert [request["path"] for request in ollama.state()["requests"]] == ["/api/delete", "/api/pull"]
        assert _get(ollama, "/api/tags").json() == {"models": []}


def test_vllm_describes_the_paths_it_serves_and_counts_what_runs(doubles: dict[str, EngineProcess]) -> None:
    with EngineProcess(kind="vllm", models=[MODEL], lacks=["/v1/messages"]) as vllm:
        paths = _get(vllm, "/openapi.json").json()["paths"]
        assert _ask(vllm, "/v1/messages").status_code == 404
    assert {"/v1/chat/completions", "/v1/models", "/health", "/version"} <= {*paths}
    assert not {"/v1/messages", "/control/state"} & {*paths}
    assert (_get(doubles["vllm"], "/health").content, _get(doubles["vllm"], "/health").status_code) == (b"", 200)
    assert 'vllm:num_requests_running{engine="0",model_name="tiny"} 0.0' in _get(doubles["vllm"], "/metrics").text
    assert _ask(doubles["vllm"], "/v1/completions", model="nobody").json()["error"]["code"] == 404


def test_vllm_goes_on_with_an_answer_only_when_told_to(doubles: dict[str, EngineProcess]) -> None:
    begun = [{"role": "user", "content": "count"}, {"role": "assistant", "content": numbered(0, 2)}]
    told = {"continue_final_message": True, "add_generation_prompt": False}
    for fields, said in (({}, numbered(0, 5)), (told, " " + numbered(2, 7))):  # a template trims it
        whole = _ask(doubles["vllm"], "/v1/chat/completions", messages=begun, **fields).json()
        assert whole["choices"][0]["message"]["content"] == said
    half_told = _ask(doubles["vllm"], "/v1/chat/completions", messages=begun, continue_final_message=True)
    assert half_told.status_code == 400


def test_ollama_goes_on_with_what_its_assistant_said_last_and_puts_prompts_into_a_template(
    doubles: dict[str, EngineProcess],
) -> None:
    begun = [{"role": "user", "content": "count"}, {"role": "assistant", "content": numbered(0, 2)}]
    ollama = doubles["ollama"]
    chat = _ask(ollama, "/v1/chat/completions", messages=begun).json()["choices"][0]["message"]["content"]
    assert chat == " " + numbered(2, 7)
    assert _ask(ollama, "/api/chat", messages=begun, stream=False).json()["message"]["content"] == chat
    assert _ask(ollama, COMPLETIONS, prompt="t0 t1 ").json()["choices"][0]["text"] == numbered(0, 5)
    assert _ask(ollama, "/api/generate", prompt="t0 t1 ", stream=False).json()["response"] == numbered(0, 5)
    raw = _ask(ollama, "/api/generate", prompt="t0 t1 ", raw=True, stream=False).json()["response"]
    assert raw == numbered(2, 7)


def test_llama_cpp_goes_on_with_a_last_message_to_the_letter_and_takes_no_two(
    doubles: dict[str, EngineProcess],
) -> None:
    begun = [{"role": "user", "content": "count"}, {"role": "assistant", "content": "Sure: t0 t1"}]
    llama = doubles["llamacpp"]
    chat = _ask(llama, "/v1/chat/completions", messages=begun).json()["choices"][0]["message"]["content"]
    assert chat == " " + numbered(2, 7)
    assert _ask(llama, "/v1/chat/completions", messages=[*begun, begun[-1]]).status_code == 400


def test_vllm_says_with_its_last_token_why_it_ends(doubles: dict[str, EngineProcess]) -> None:
    choices = [event["choices"][0] for event in events_in(_ask(doubles["vllm"], COMPLETIONS, stream=True).text)]
    assert [choice["finish_reason"] for choice in choices] == [None] * 4 + ["length"]
    assert "".join(choice["text"] for choice in choices) == numbered(0, 5)


def test_llama_cpp_takes_any_name_and_tells_its_slots(doubles: dict[str, EngineProcess]) -> None:
    llama = doubles["llamacpp"]
    assert _ask(llama, "/v1/chat/completions", model="anything").status_code == 200
    assert _get(llama, "/props").json()["total_slots"] == len(_get(llama, "/slots").json()) == 4
    assert _get(llama, "/v1/models").json()["data"][0]["meta"]["size"] == MODEL.size_bytes
    assert _get(llama, "/api/version").json()["error"]["type"] == "not_found_error"


def test_lm_studio_loads_what_is_asked_for_and_answers_nonsense_with_200() -> None:
    with EngineProcess(kind="lmstudio", models=[MODEL]) as studio:
        assert _get(studio, "/api/v0/models").json()["data"][0]["state"] == "not-loaded"
        assert _ask(studio, "/v1/chat/completions").status_code == 200
        assert _get(studio, "/api/v0/models").json()["data"][0]["state"] == "loaded"
        assert _get(studio, "/api/v1/models").json()["models"][0]["loaded_instances"][0]["id"] == MODEL.name
        nonsense = _get(studio, "/api/version")
    assert (nonsense.status_code, [*nonsense.json()]) == (200, ["error"])


@pytest.mark.parametrize("endpoint", ["/v1/responses", "/v1/messages"])
def test_events_that_have_names_begin_carry_the_text_and_end(endpoint: str, doubles: dict[str, EngineProcess]) -> None:
    text = _ask(doubles["vllm"], endpoint, stream=True).text
    names = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    events = events_in(text)
    assert names == [event["type"] for event in events]
    deltas = [event["delta"] for event in events if event["type"].endswith((".delta", "_block_delta"))]
    assert "".join(delta if isinstance(delta, str) else delta["text"] for delta in deltas) == numbered(0, 5)
    assert names[0] in ("response.created", "message_start")
    assert names[-1] in ("response.completed", "message_stop")


def test_two_answers_to_one_request_are_the_same_bytes_when_asked_to_be(doubles: dict[str, EngineProcess]) -> None:
    for endpoint in ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/api/chat", "/api/generate"):
        answers = {_ask(doubles["ollama"], endpoint, double={"same_each_time": True}).content for _ in range(2)}
        assert len(answers) == 1
        assert len({_ask(doubles["ollama"], endpoint).content for _ in range(2)}) == 2
