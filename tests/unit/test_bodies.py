"""Request bodies: good ones pass as they are, bad ones are refused by code and field before anything is published."""

from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.api.bodies import check_body
from hub.api.openai.bodies import ChatBody, CompletionBody, EmbeddingBody, ModelBody, ResponseBody
from hub.errors import InvalidRequest

CHAT: dict[str, Any] = {"model": "tiny:1b", "messages": [{"role": "user", "content": "hi"}]}
COMPLETION: dict[str, Any] = {"model": "tiny:1b", "prompt": "hi"}
TYPE, VALUE = "invalid_type", "invalid_value"
MISSING, JSON = "missing_required_parameter", "invalid_json"
JSON_SCALARS = st.none() | st.booleans() | st.integers(0, 99) | st.text(max_size=9)
JSON_VALUES = JSON_SCALARS | st.lists(JSON_SCALARS, max_size=3)


def chat(**fields: object) -> bytes:
    return orjson.dumps({**CHAT, **fields})


def completion(**fields: object) -> bytes:
    return orjson.dumps({**COMPLETION, **fields})


class TestGoodBodies:
    @pytest.mark.parametrize(
        "body",
        [
            chat(),
            chat(stream=True, n=2, temperature=1, top_p=0.5, max_tokens=5, stop="x"),
            chat(stream=None, stop=None, max_tokens=None, temperature=None, n=None),
            chat(stop=["a", "b"], max_completion_tokens=9),
            chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]),
            chat(tools=[{"type": "function", "function": {"name": "f"}}], response_format={"type": "json_object"}),
            chat(messages=[{"role": "user", "content": "why is [NaN, -Infinity] a number?"}]),
            chat(unknown={"of": ["a", {"later": "version"}]}, model="org/naïve 模型:Q4_K_M"),
            b" \n" + chat() + b"\r\n ",
        ],
    )
    def test_a_chat_passes(self, body: bytes) -> None:
        assert check_body(ChatBody, body).model == orjson.loads(body)["model"]

    @pytest.mark.parametrize("prompt", ["hi", "", ["a", "b"], [1, 2, 3], [[1, 2], [3]]])
    def test_a_prompt_may_be_text_or_tokens_or_many_of_them(self, prompt: object) -> None:
        assert check_body(CompletionBody, completion(prompt=prompt)).model == "tiny:1b"

    @pytest.mark.parametrize("said", ["hi", ["a", "b"], [1, 2], [[1], [2]]])
    def test_texts_and_tokens_can_be_embedded(self, said: object) -> None:
        body = orjson.dumps({"model": "m", "input": said, "encoding_format": "base64", "stream": True})
        assert (check_body(EmbeddingBody, body).model, check_body(EmbeddingBody, body).wants_stream) == ("m", False)

    @pytest.mark.parametrize(
        "fields",
        [
            {"input": "hi"},
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}], "stream": True},
            {"input": "hi", "tools": [{"type": "function"}], "tool_choice": "auto", "reasoning": {"effort": "low"}},
            {"input": "hi", "store": True, "background": False, "previous_response_id": None, "conversation": None},
            {"input": "hi", "instructions": "be nice", "max_output_tokens": 5, "temperature": 0, "top_p": 1},
        ],
    )
    def test_a_response_passes(self, fields: dict[str, object]) -> None:
        assert check_body(ResponseBody, orjson.dumps({"model": "m", **fields})).model == "m"

    @pytest.mark.parametrize("stream", [True, False, None])
    def test_whether_to_stream_is_read(self, stream: bool | None) -> None:
        assert check_body(ChatBody, chat(stream=stream)).wants_stream is bool(stream)

    @given(st.dictionaries(st.text(max_size=10).filter(lambda name: name not in ChatBody.model_fields), JSON_VALUES))
    def test_fields_that_only_an_engine_knows_are_its_business(self, fields: dict[str, object]) -> None:
        assert check_body(ChatBody, chat(**fields)).model == "tiny:1b"


class TestBadBodies:
    @pytest.mark.parametrize(
        ("fields", "code", "param"),
        [
            ({}, MISSING, "input"),
            ({"input": 5}, TYPE, "input"),
            ({"input": []}, TYPE, "input"),
            ({"input": "hi", "max_output_tokens": 0}, VALUE, "max_output_tokens"),
            ({"input": "hi", "previous_response_id": 5}, TYPE, "previous_response_id"),
            ({"input": "hi", "previous_response_id": "resp_1"}, "unsupported_parameter", "previous_response_id"),
            ({"input": "hi", "background": True}, "unsupported_parameter", "background"),
            ({"input": "hi", "conversation": "conv_1"}, "unsupported_parameter", "conversation"),
            ({"input": "hi", "conversation": {"id": "conv_1"}}, "unsupported_parameter", "conversation"),
        ],
    )
    def test_a_response_that_is_to_be_kept_is_refused_by_name(
        self, fields: dict[str, object], code: str, param: str
    ) -> None:
        with pytest.raises(InvalidRequest) as caught:
            check_body(ResponseBody, orjson.dumps({"model": "m", **fields}))
        assert (caught.value.status, caught.value.code, caught.value.param) == (400, code, param)

    @pytest.mark.parametrize("said", [None, 5, {"text": "hi"}, [None], ["a", 1], [["a"]]])
    def test_what_cannot_be_embedded_is_refused(self, said: object) -> None:
        with pytest.raises(InvalidRequest, match="input"):
            check_body(EmbeddingBody, orjson.dumps({"model": "m", "input": said}))

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b" ",
            b"{",
            b"hello",
            b"model=tiny:1b",
            chat()[:-1],
            chat() + b"x",
            chat() + chat(),
            chat().replace(b"hi", b"\xff"),
            chat().replace(b"hi", b"\\ud800"),
            chat().replace(b"hi", b"line\nbreak"),
            chat().replace(b'"hi"', b"NaN"),
            chat().replace(b'"hi"', b"Infinity"),
            chat().replace(b'"hi"', b"01"),
            chat().replace(b'"', b"'"),
            chat().decode().encode("utf-16"),
            chat().replace(b'"hi"', b"[" * 100_000 + b"]" * 100_000),
            b"\x1f\x8b\x08\x00",
        ],
    )
    def test_what_is_not_json_is_told_as_such(self, body: bytes) -> None:
        with pytest.raises(InvalidRequest) as refusal:
            check_body(ChatBody, body)
        assert (refusal.value.status, refusal.value.code, refusal.value.param) == (400, JSON, None)

    @pytest.mark.parametrize("body", [b"[]", b"null", b"7", b'"text"', b"[{}]", b"true"])
    def test_json_that_is_no_object_is_refused(self, body: bytes) -> None:
        with pytest.raises(InvalidRequest) as refusal:
            check_body(ChatBody, body)
        assert (refusal.value.status, refusal.value.code, refusal.value.param) == (400, TYPE, None)
        assert "ChatBody" not in refusal.value.message

    @pytest.mark.parametrize(
        ("body", "code", "param"),
        [
            (b"{}", MISSING, "model"),
            (b'{"model":"m"}', MISSING, "messages"),
            (chat(model=None), TYPE, "model"),
            (chat(model=7), TYPE, "model"),
            (chat(model=""), VALUE, "model"),
            (chat(model="x" * 257), VALUE, "model"),
            (chat(messages=None), TYPE, "messages"),
            (chat(messages=[]), VALUE, "messages"),
            (chat(messages="hi"), TYPE, "messages"),
            (chat(messages={"role": "user"}), TYPE, "messages"),
            (chat(messages=[{}, "hi"]), TYPE, "messages.1"),
            (chat(stream="true"), TYPE, "stream"),
            (chat(stream=1), TYPE, "stream"),
            (chat(max_tokens="5"), TYPE, "max_tokens"),
            (chat(max_tokens=1.5), TYPE, "max_tokens"),
            (chat(max_tokens=True), TYPE, "max_tokens"),
            (chat(max_completion_tokens=-1), VALUE, "max_completion_tokens"),
            (chat(n=0), VALUE, "n"),
            (chat(temperature="hot"), TYPE, "temperature"),
            (chat(temperature=True), TYPE, "temperature"),
            (chat(top_p=[]), TYPE, "top_p"),
            (chat(stop=7), TYPE, "stop"),
            (chat(tools={}), TYPE, "tools"),
            (chat(tools=["f"]), TYPE, "tools.0"),
        ],
    )
    def test_a_chat_s_first_bad_field_is_named(self, body: bytes, code: str, param: str) -> None:
        with pytest.raises(InvalidRequest) as refusal:
            check_body(ChatBody, body)
        assert (refusal.value.status, refusal.value.code, refusal.value.param) == (400, code, param)
        assert param in refusal.value.message

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (b'{"model":"m"}', MISSING),
            (completion(prompt=None), TYPE),
            (completion(prompt=7), TYPE),
            (completion(prompt={}), TYPE),
            (completion(prompt=[1, "a"]), TYPE),
            (completion(prompt=[1.5]), TYPE),
            (completion(prompt=[True]), TYPE),
            (completion(prompt=[["a"]]), TYPE),
        ],
    )
    def test_a_bad_prompt_is_named_by_its_own_name(self, body: bytes, code: str) -> None:
        """Not by that of one of the forms it might have had."""
        with pytest.raises(InvalidRequest) as refusal:
            check_body(CompletionBody, body)
        assert (refusal.value.code, refusal.value.param) == (code, "prompt")

    def test_a_refusal_does_not_repeat_the_body(self) -> None:
        with pytest.raises(InvalidRequest) as refusal:
            check_body(ChatBody, chat(messages="a private thing" * 1000))
        assert "private" not in refusal.value.message

    @given(st.binary(max_size=60), st.sampled_from([ChatBody, CompletionBody]))
    def test_any_bytes_pass_or_are_refused(self, body: bytes, shape: type[ModelBody]) -> None:
        with suppress(InvalidRequest):
            assert check_body(shape, body).model
