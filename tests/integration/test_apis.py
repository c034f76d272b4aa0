"""OpenAI's other APIs and Anthropic's, through a hub, a provider and engines of every kind."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from tests.doubles.process import EngineProcess
from tests.doubles.reading import events_in, numbered
from tests.support.call import Answer, get, post
from tests.support.grid import Grid, chat
from tests.support.processes import until

KINDS = ("llamacpp", "vllm", "lmstudio", "ollama", "openai")
TALK = [{"role": "user", "content": "count for me"}]
MESSAGES, COUNT, RESPONSES, EMBEDDINGS = "/v1/messages", "/v1/messages/count_tokens", "/v1/responses", "/v1/embeddings"
BODIES: dict[str, dict[str, Any]] = {
    MESSAGES: {"messages": TALK, "max_tokens": 5},
    COUNT: {"messages": TALK},
    RESPONSES: {"input": "count for me", "max_output_tokens": 5},
    EMBEDDINGS: {"input": ["one text", "and another"]},
}


@dataclass(frozen=True)
class World:
    """A hub, and an engine of every kind with a model of that name."""

    hub: str
    grid: Grid
    engines: dict[str, EngineProcess]

    def ask(self, path: str, kind: str = "llamacpp", **fields: Any) -> Answer:
        """Ask for the kind's model."""
        return post(self.hub, {"model": kind, **BODIES[path], **fields}, path=path)

    def usage(self, answer: Answer) -> dict[str, str]:
        """What the hub wrote down about a request that is over."""
        key = f"ghub:request:{answer.headers['x-request-id']}"
        with self.grid.redis() as client:
            until(lambda: "ended_at" in client.hgetall(key), 5, f"{key} to be over")
            return dict(client.hgetall(key))


@pytest.fixture(scope="module")
def world(module_grid: Grid) -> Iterator[World]:
    with ExitStack() as stack:
        engines = {kind: stack.enter_context(EngineProcess(kind=kind, models=[kind])) for kind in KINDS}
        hub = module_grid.hub()
        for kind, engine in engines.items():
            module_grid.provider(engine.url, kind, wait=False)
        for kind in engines:
            module_grid.wait_for_model(hub, kind)
        yield World(hub, module_grid, engines)


class TestMessages:
    @pytest.mark.parametrize("kind", ["llamacpp", "vllm", "lmstudio"])
    def test_one_comes_whole_and_streamed(self, kind: str, world: World) -> None:
        whole = world.ask(MESSAGES, kind)
        assert whole.json["content"] == [{"type": "text", "text": numbered(0, 5)}]
        streamed = world.ask(MESSAGES, kind, stream=True)
        events = events_in(streamed.text)
        assert "".join(event["delta"].get("text", "") for event in events if "delta" in event) == numbered(0, 5)
        assert events[-1]["type"] == "message_stop"
        assert "[DONE]" not in streamed.text
        assert world.usage(streamed)["completion_tokens"] == "5"

    @pytest.mark.parametrize("kind", ["llamacpp", "vllm"])
    def test_its_tokens_are_counted_where_the_engine_does(self, kind: str, world: World) -> None:
        assert world.ask(COUNT, kind).json == {"input_tokens": 3}

    def test_the_key_may_stand_where_anthropic_s_clients_put_it(self, world: World) -> None:
        headers = {"x-api-key": "whatever", "anthropic-version": "2023-06-01", "anthropic-beta": "x"}
        body = {"model": "llamacpp", **BODIES[MESSAGES]}
        assert post(world.hub, body, path=MESSAGES, headers=headers).status == 200

    def test_without_the_key_that_is_asked_for_it_is_refused_in_anthropic_s_shape(self, world: World) -> None:
        locked = world.grid.hub(GHUB_HUB_AUTH="required")
        answer = post(locked, {"model": "llamacpp", **BODIES[MESSAGES]}, path=MESSAGES)
        assert (answer.status, answer.json["error"]["type"]) == (401, "authentication_error")

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_refusal_of_the_engine_is_heard_in_anthropic_s_shape(self, stream: bool, world: World) -> None:
        answer = world.ask(MESSAGES, stream=stream, double={"status": 400})
        assert answer.status == 400
        assert answer.json["error"] == {"type": "invalid_request_error", "message": "scripted failure 400"}
        assert answer.json["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]

    def test_an_error_in_mid_stream_is_an_event_of_that_name(self, world: World) -> None:
        text = world.ask(MESSAGES, stream=True, double={"error_event_after": 2, "delay_ms": 100}).text
        last = text.rstrip().rpartition("\n\n")[2]
        assert last.startswith("event: error\n")
        assert events_in(last + "\n")[0]["error"] == {"type": "api_error", "message": "scripted failure"}

    @pytest.mark.parametrize(
        ("fields", "status", "word"),
        [
            ({"model": "nobody/has:this"}, 404, "not_found_error"),
            ({"messages": []}, 400, "invalid_request_error"),
            ({"max_tokens": "5"}, 400, "invalid_request_error"),
        ],
    )
    @pytest.mark.parametrize("path", [MESSAGES, COUNT])
    def test_the_hub_s_own_refusals_have_it_too(
        self, path: str, fields: dict[str, Any], status: int, word: str, world: World
    ) -> None:
        if path == COUNT and "max_tokens" in fields:
            fields = {"system": 5}
        answer = world.ask(path, **fields)
        assert (answer.status, answer.json["type"], answer.json["error"]["type"]) == (status, "error", word)


class TestResponses:
    @pytest.mark.parametrize("kind", ["llamacpp", "vllm", "lmstudio"])
    def test_one_comes_whole_and_streamed(self, kind: str, world: World) -> None:
        assert world.ask(RESPONSES, kind).json["output"][0]["content"][0]["text"] == numbered(0, 5)
        streamed = world.ask(RESPONSES, kind, stream=True)
        events = events_in(streamed.text)
        said = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
        assert "".join(said) == numbered(0, 5)
        assert events[-1]["type"] == "response.completed"
        assert "[DONE]" not in streamed.text
        assert world.usage(streamed)["completion_tokens"] == "5"

    def test_what_llama_cpp_leaves_out_is_there(self, world: World) -> None:
        events = events_in(world.ask(RESPONSES, stream=True).text)
        assert [event["sequence_number"] for event in events] == [*range(len(events))]
        assert events[0]["response"]["parallel_tool_calls"] is True

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_refusal_of_the_engine_is_heard_with_its_words(self, stream: bool, world: World) -> None:
        answer = world.ask(RESPONSES, stream=stream, double={"status": 400})
        assert (answer.status, answer.error["message"]) == (400, "scripted failure 400")

    def test_an_error_in_mid_stream_is_an_event_of_that_name(self, world: World) -> None:
        text = world.ask(RESPONSES, stream=True, double={"error_event_after": 2, "delay_ms": 100}).text
        last = text.rstrip().rpartition("\n\n")[2]
        assert last.startswith("event: error\n")
        (event,) = events_in(last + "\n")
        assert (event["type"], event["message"]) == ("error", "scripted failure")

    @pytest.mark.parametrize("path", ["/resp_1", "/resp_1/cancel", "/resp_1/input_items"])
    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
    def test_none_is_kept(self, method: str, path: str, world: World) -> None:
        answer = post(world.hub, b"", path=f"{RESPONSES}{path}", method=method)
        assert (answer.status, answer.error["code"]) == (404, "not_found")

    @pytest.mark.parametrize("fields", [{"previous_response_id": "resp_1"}, {"background": True}])
    def test_and_so_none_can_be_gone_on_with(self, fields: dict[str, Any], world: World) -> None:
        answer = world.ask(RESPONSES, **fields)
        assert (answer.status, answer.error["code"]) == (400, "unsupported_parameter")
        assert answer.error["param"] == next(iter(fields))


class TestEmbeddings:
    @pytest.mark.parametrize("kind", ["llamacpp", "vllm", "lmstudio", "ollama"])
    def test_texts_are_embedded_and_counted(self, kind: str, world: World) -> None:
        answer = world.ask(EMBEDDINGS, kind)
        assert [one["index"] for one in answer.json["data"]] == [0, 1]
        assert world.usage(answer)["prompt_tokens"] == "4"

    def test_they_are_never_streamed(self, world: World) -> None:
        assert world.ask(EMBEDDINGS, stream=True).json["object"] == "list"


class TestWhatNobodyServes:
    @pytest.mark.parametrize("path", [RESPONSES, EMBEDDINGS])
    def test_an_api_that_no_engine_of_the_model_has_is_told_at_once(self, path: str, world: World) -> None:
        answer = world.ask(path, "openai")
        assert (answer.status, answer.error["code"]) == (404, "endpoint_not_supported")

    @pytest.mark.parametrize("path", [MESSAGES, COUNT])
    def test_in_anthropic_s_shape_where_it_is_anthropic_s(self, path: str, world: World) -> None:
        answer = world.ask(path, "openai")
        assert (answer.status, answer.json["error"]["type"]) == (404, "not_found_error")

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/v1/audio/speech"),
            ("POST", "/v1/images/generations"),
            ("POST", "/v1/moderations"),
            ("GET", "/v1/files"),
            ("GET", "/v1/batches"),
            ("POST", "/v1/assistants"),
        ],
    )
    def test_openai_s_other_paths_are_told_to_be_none_of_ours(self, method: str, path: str, world: World) -> None:
        answer = post(world.hub, b"{}", path=path, method=method)
        assert (answer.status, answer.error["code"]) == (404, "unknown_url")
        assert answer.error["message"] == f"This grid does not serve {method} {path}."


class TestUsageOfStreams:
    """Bills are written from it, whether or not the client asked to see it."""

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("is_chat", [True, False])
    def test_it_is_known_and_hidden_from_a_client_that_did_not_ask(
        self, is_chat: bool, kind: str, world: World
    ) -> None:
        body = chat(model=kind, tokens=5, stream=True)
        if not is_chat:
            body["prompt"] = body.pop("messages")[0]["content"]
        answer = post(world.hub, body, path=f"/v1/{'chat/completions' if is_chat else 'completions'}")
        assert answer.said == numbered(0, 5)
        assert all(event["choices"] for event in events_in(answer.text))
        facts = world.usage(answer)
        assert (facts["prompt_tokens"], facts["completion_tokens"]) == ("1", "5")

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_client_that_asks_sees_it(self, kind: str, world: World) -> None:
        options = {"include_usage": True}
        answer = post(world.hub, chat(model=kind, tokens=5, stream=True, stream_options=options))
        last = events_in(answer.text)[-1]
        assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 5)
        assert world.usage(answer)["completion_tokens"] == "5"


def test_models_are_listed_in_openai_s_form(world: World) -> None:
    assert {model["id"] for model in get(world.hub, "/v1/models").json["data"]} == {*KINDS}
    assert orjson.loads(get(world.hub, "/v1/models/vllm").text)["object"] == "model"
