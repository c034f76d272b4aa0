"""Prompts and answers in the words of OpenTelemetry's conventions, whichever API they came by."""

from typing import Any

import orjson
import pytest

from provider.telemetry.content import CUT, MAX_CHARS, asked_in, said_in


def written(*messages: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"role": role, "parts": [{"type": "text", "content": text}]} for role, text in messages]


def sse(*events: object) -> bytes:
    return b"".join(b"data: %b\n\n" % orjson.dumps(one) for one in events) + b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]}, None),
        ({"system": "be kind", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}, None),
        ({"instructions": "be kind", "input": "hi"}, None),
        ({"system": "be kind", "prompt": "hi"}, None),
        ({"input": ["a", "b"]}, written(("user", "a\nb"))),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            written(("user", "[image_url]")),
        ),
        ({"messages": [{"content": None}], "prompt": 7}, written(("user", "None"), ("user", "7"))),
        ({}, []),
    ],
)
def test_what_was_asked(body: dict[str, Any], expected: list[dict[str, Any]] | None) -> None:
    if expected is None:
        expected = written(("system", "be kind"), ("user", "hi"))
    assert orjson.loads(asked_in(orjson.dumps(body))) == expected


@pytest.mark.parametrize(
    "answer",
    [
        orjson.dumps({"choices": [{"message": {"role": "assistant", "content": "one two"}}]}),
        orjson.dumps({"choices": [{"text": "one two"}]}),
        orjson.dumps({"type": "message", "content": [{"type": "text", "text": "one two"}]}),
        orjson.dumps({"output": [{"type": "message", "content": [{"type": "output_text", "text": "one two"}]}]}),
        orjson.dumps({"message": {"role": "assistant", "content": "one two"}, "done": True}),
        orjson.dumps({"response": "one two", "done": True}),
        sse(
            {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
            *({"choices": [{"delta": {"content": said}}]} for said in ("one ", "two")),
            {"choices": []},
        ),
        sse({"choices": [{"text": "one "}]}, {"choices": [{"text": "two", "finish_reason": "stop"}]}),
        sse(
            {"type": "message_start", "message": {"content": []}},
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "one "}},
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "two"}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        ),
        sse(
            {"type": "response.output_text.delta", "delta": "one "},
            {"type": "response.output_text.delta", "delta": "two"},
            {"type": "response.output_text.done", "text": "one two"},
            {"type": "response.completed", "response": {"output": [{"content": [{"text": "one two"}]}]}},
        ),
        b'{"message": {"content": "one "}}\n{"message": {"content": "two"}}\n{"done": true}\n',
        b"one two",
    ],
)
def test_what_was_answered(answer: bytes) -> None:
    assert orjson.loads(said_in(answer)) == written(("assistant", "one two"))


@pytest.mark.parametrize(
    "nonsense", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'"text"', b'{"messages": 7}', b'{"choices": 7}']
)
def test_nonsense_is_told_somehow(nonsense: bytes) -> None:
    assert isinstance(orjson.loads(asked_in(nonsense)), list)
    assert isinstance(orjson.loads(said_in(nonsense)), list)


def test_all_of_it_together_is_no_longer_than_a_span_may_be() -> None:
    body = orjson.dumps({"messages": [{"role": "user", "content": "x" * MAX_CHARS}, {"role": "user", "content": "yz"}]})
    first, second = orjson.loads(asked_in(body))
    assert len(first["parts"][0]["content"]) == MAX_CHARS
    assert second["parts"][0]["content"] == CUT
