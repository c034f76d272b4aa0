"""Questions in Ollama's words reach engines of OpenAI's API in theirs."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.types import ModelId
from provider.engines.native.questions import NATIVE_PATHS, NativeQuestion, read_native
from provider.errors import EngineRefused
from provider.protocol.engine import Question

USER = {"role": "user", "content": "hi"}
WHOLE = {"model": "m", "stream": False}
PNG = "iVBORw0KGgoAAAANS"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = """
messages prompt input images system suffix raw format options think tools keep_alive dimensions logprobs
role content thinking tool_calls tool_name function name arguments num_predict temperature stop
"""
FIELDS = NAMES.split()


def read(path: str, *, stream: bool = False, **fields: Any) -> NativeQuestion:
    body = orjson.dumps({"model": "m", **fields})
    return read_native(Question("r", path, ModelId("m"), stream, body, "trace"))


def told(path: str, *, stream: bool = False, **fields: Any) -> dict[str, Any]:
    """The body that the engine gets."""
    asked = read(path, stream=stream, **fields).asked
    assert asked is not None
    body = orjson.loads(asked.body)
    assert isinstance(body, dict)
    return body


def chat(**fields: Any) -> dict[str, Any]:
    return told("/api/chat", **{"messages": [USER], **fields})


def messages(*said: dict[str, Any]) -> list[dict[str, Any]]:
    written = chat(messages=[*said])["messages"]
    assert isinstance(written, list)
    return written


class TestPaths:
    @pytest.mark.parametrize(
        ("path", "fields", "reached", "body"),
        [
            ("/api/chat", {"messages": [USER]}, "/v1/chat/completions", {"messages": [USER]}),
            ("/api/generate", {"prompt": "hi"}, "/v1/chat/completions", {"messages": [USER]}),
            (
                "/api/generate",
                {"prompt": "hi", "system": "Be brief.", "template": "{{ .Prompt }}", "context": [1, 2]},
                "/v1/chat/completions",
                {"messages": [{"role": "system", "content": "Be brief."}, USER]},
            ),
            ("/api/generate", {"prompt": "<s>hi", "raw": True}, "/v1/completions", {"prompt": "<s>hi"}),
        ],
        ids=["chat", "prompt", "prompt-with-system", "raw-prompt"],
    )
    def test_each_way_of_asking_has_its_path(
        self, path: str, fields: dict[str, Any], reached: str, body: dict[str, Any]
    ) -> None:
        asked = read(path, **fields).asked
        assert asked is not None
        assert (asked.endpoint, asked.id, asked.trace, asked.stream) == (reached, "r", "trace", False)
        assert orjson.loads(asked.body) == WHOLE | body

    @pytest.mark.parametrize("given_input", ["one", ["one", "two"]])
    def test_texts_to_embed_go_as_they_are_and_never_as_a_stream(self, given_input: object) -> None:
        asked = read("/api/embed", stream=True, input=given_input, dimensions=64, truncate=True).asked
        assert asked is not None
        assert (asked.endpoint, asked.stream) == ("/v1/embeddings", False)
        assert orjson.loads(asked.body) == {"model": "m", "input": given_input, "dimensions": 64}

    def test_a_stream_is_asked_for_as_one(self) -> None:
        body = told("/api/generate", stream=True, prompt="hi")
        assert body["stream"] is True

    @pytest.mark.parametrize(
        ("path", "fields"),
        [
            ("/api/chat", {}),
            ("/api/chat", {"messages": []}),
            ("/api/generate", {"prompt": ""}),
            ("/api/embed", {"input": []}),
        ],
    )
    @pytest.mark.parametrize(("keep", "reason"), [(None, "load"), ("5m", "load"), (0, "unload"), ("0", "unload")])
    def test_whoever_asks_nothing_only_wants_the_model_loaded_or_put_away(
        self, path: str, fields: dict[str, Any], keep: object, reason: str
    ) -> None:
        wanted = read(path, keep_alive=keep, **fields)
        assert (wanted.asked, wanted.done_reason) == (None, reason)


class TestChoices:
    @pytest.mark.parametrize(
        ("options", "body"),
        [
            ({"temperature": 0.5, "top_p": 0.9, "seed": 7}, {"temperature": 0.5, "top_p": 0.9, "seed": 7}),
            ({"top_k": 40, "min_p": 0.1, "typical_p": 1}, {"top_k": 40, "min_p": 0.1, "typical_p": 1}),
            ({"num_predict": 12}, {"max_tokens": 12}),
            ({"num_predict": -1}, {}),
            ({"stop": ["a", "b"]}, {"stop": ["a", "b"]}),
            ({"presence_penalty": 1, "frequency_penalty": 2}, {"presence_penalty": 1, "frequency_penalty": 2}),
            ({"repeat_penalty": 1.1}, {"repeat_penalty": 1.1, "repetition_penalty": 1.1}),
            ({"num_ctx": 4096, "num_gpu": 1, "mirostat": 2, "temperature": None}, {}),
        ],
        ids=str,
    )
    def test_an_option_is_called_what_engines_call_it(self, options: dict[str, Any], body: dict[str, Any]) -> None:
        assert chat(options=options) == WHOLE | {"messages": [USER]} | body

    @pytest.mark.parametrize(
        ("fields", "body"),
        [
            ({"think": True}, {"chat_template_kwargs": {"enable_thinking": True}}),
            ({"think": False}, {"chat_template_kwargs": {"enable_thinking": False}}),
            ({"think": "high"}, {"reasoning_effort": "high"}),
            ({"logprobs": True, "top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
            ({"tools": [{"type": "function"}]}, {"tools": [{"type": "function"}]}),
            ({"format": ""}, {}),
        ],
        ids=str,
    )
    def test_so_are_thinking_and_tools(self, fields: dict[str, Any], body: dict[str, Any]) -> None:
        assert chat(**fields) == WHOLE | {"messages": [USER]} | body

    @pytest.mark.parametrize(
        ("form", "schema"), [("json", {"type": "object"}), ({"type": "array"}, {"type": "array"})], ids=str
    )
    def test_an_answer_s_form_is_a_schema(self, form: object, schema: dict[str, Any]) -> None:
        wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        assert chat(format=form)["response_format"] == wanted


class TestMessages:
    def test_pictures_become_parts_that_say_what_they_are(self) -> None:
        (told,) = messages({"role": "user", "content": "look", "images": [PNG, "/9j/4AAQ"]})
        assert told["content"] == [
            {"type": "text", "text": "look"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
            {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/4AAQ"}},
        ]

    def test_a_prompt_s_pictures_too(self) -> None:
        content = told("/api/generate", prompt="look", images=[PNG])["messages"][0]["content"]
        assert [part["type"] for part in content] == ["text", "image_url"]

    def test_thoughts_stay_with_their_message(self) -> None:
        (told,) = messages({"role": "assistant", "content": "4", "thinking": "2 and 2"})
        assert told == {"role": "assistant", "content": "4", "reasoning_content": "2 and 2"}

    def test_a_result_finds_the_call_that_it_answers(self) -> None:
        calls = [{"function": {"name": name, "arguments": {"of": name}}} for name in ("time", "weather", "weather")]
        results = [{"role": "tool", "tool_name": name, "content": "x"} for name in ("weather", "time", "weather")]
        said = messages({"role": "assistant", "content": "", "tool_calls": calls}, *results)
        made = said[0]["tool_calls"]
        assert [orjson.loads(call["function"]["arguments"])["of"] for call in made] == ["time", "weather", "weather"]
        time, first, second = (call["id"] for call in made)
        assert len({time, first, second}) == 3
        assert [result["tool_call_id"] for result in said[1:]] == [first, time, second]

    def test_ids_that_the_client_has_kept_are_kept(self) -> None:
        calls = [{"id": f"c{n}", "function": {"name": "time", "arguments": {}}} for n in (1, 2)]
        said = messages(
            {"role": "assistant", "tool_calls": calls}, {"role": "tool", "tool_call_id": "c2", "content": "noon"}
        )
        assert [call["id"] for call in said[0]["tool_calls"]] == ["c1", "c2"]
        assert said[1]["tool_call_id"] == "c2"

    def test_a_result_without_a_call_is_passed_on_all_the_same(self) -> None:
        (told,) = messages({"role": "tool", "content": "noon"})
        assert told["tool_call_id"]


class TestNonsense:
    @pytest.mark.parametrize(
        ("path", "fields", "words"),
        [
            ("/api/chat", {"model": 5, "messages": [USER]}, "model must be a text"),
            ("/api/chat", {"messages": "hi"}, "messages must be a list"),
            ("/api/chat", {"messages": [USER], "format": 5}, "format must be"),
            ("/api/chat", {"messages": [USER], "options": [1]}, "options must be"),
            ("/api/chat", {"messages": [{"role": "user", "content": 5}]}, "content must be a text"),
            ("/api/chat", {"messages": [{"role": "user", "images": [5]}]}, "images must be"),
            ("/api/chat", {"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "a function with a name"),
            ("/api/generate", {"prompt": ["hi"]}, "prompt must be a text"),
            ("/api/generate", {"prompt": "def f(", "suffix": "return"}, "it takes no suffix"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_what_cannot_be_asked_is_refused_with_words_and_for_good(
        self, path: str, fields: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(EngineRefused, match=words) as caught:
            read(path, **fields)
        assert (caught.value.failure.status, caught.value.failure.retryable) == (400, False)

    def test_nor_is_what_is_too_deep_to_be_written(self) -> None:
        body = b'{"model":"m","messages":[{"role":"user"}],"tools":' + b"[" * 400 + b"]" * 400 + b"}"
        with pytest.raises(EngineRefused):
            read_native(Question("r", "/api/chat", ModelId("m"), stream=False, body=body))

    @given(st.sampled_from(sorted(NATIVE_PATHS)), st.binary(max_size=40))
    def test_bytes_of_any_kind_are_read_or_refused(self, path: str, body: bytes) -> None:
        question = Question("r", path, ModelId("m"), stream=True, body=body)
        with pytest.raises(EngineRefused):
            read_native(question)

    @given(
        st.sampled_from(sorted(NATIVE_PATHS)),
        st.dictionaries(st.sampled_from(FIELDS), JSON),
        st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4), max_size=3),
    )
    def test_so_is_json_of_any_kind(self, path: str, fields: dict[str, Any], said: list[dict[str, Any]]) -> None:
        try:
            body = orjson.dumps({"model": "m", "messages": said, **fields}, option=orjson.OPT_NON_STR_KEYS)
        except TypeError:  # numbers beyond 64 bits, half characters
            return
        try:
            wanted = read_native(Question("r", path, ModelId("m"), stream=True, body=body))
        except EngineRefused:
            return
        assert wanted.asked is None or orjson.loads(wanted.asked.body)["model"] == "m"
