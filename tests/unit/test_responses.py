"""Responses of an engine that leaves out what clients need: it is filled in, and nothing else changes."""

import asyncio
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.engines import responses
from provider.engines.responses import CompletedResponse
from provider.errors import EngineBroke
from provider.protocol.engine import EngineAnswer
from tests.unit.engine_script import EVENTS, JSON, ScriptedAnswer
from tests.unit.engine_server import question

HEAD = {"id": "resp_1", "object": "response", "status": "in_progress"}
SAID = {"type": "output_text", "text": "hi"}
USAGE = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))


BARE = [
    _event("response.created", response=HEAD),
    _event("response.output_item.added", item={"type": "reasoning", "id": "rs_1"}),
    _event("response.reasoning_text.delta", item_id="rs_1", delta="hm"),
    _event("response.output_item.added", item={"type": "message", "id": "msg_1", "content": []}),
    _event("response.content_part.added", item_id="msg_1", part={"type": "output_text", "text": ""}),
    _event("response.output_text.delta", item_id="msg_1", delta="hi"),
    _event("response.output_text.done", item_id="msg_1", text="hi"),
    _event("response.content_part.done", item_id="msg_1", part=SAID),
    _event("response.output_item.done", item={"type": "reasoning", "id": "rs_1"}),
    _event("response.output_item.added", item={"type": "function_call", "call_id": "c"}),
    _event("response.function_call_arguments.delta", item_id="fc_c", delta="{}"),
    _event("response.completed", response={**HEAD, "status": "completed", "created_at": 5, "usage": USAGE}),
]


def test_every_event_tells_its_number_and_where_it_stands() -> None:
    events = heard(BARE)
    assert [event["sequence_number"] for event in events] == [*range(len(BARE))]
    assert [event.get("output_index") for event in events] == [None, 0, 0, 1, 1, 1, 1, 1, 0, 2, 2, None]
    assert [event.get("content_index") for event in events] == [None, None, 0, None, 0, 0, 0, 0, None, None, None, None]
    assert events[4]["part"] == {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    assert [event.get("logprobs") for event in events] == [None] * 5 + [[], []] + [None] * 5


def test_a_response_says_what_was_asked_and_what_is_not_there_yet() -> None:
    events = heard(BARE, b'{"input":"hi","instructions":"be nice","tools":[{"type":"function"}],"temperature":0.5}')
    created, completed = events[0]["response"], events[-1]["response"]
    assert (created["output"], created["error"], created["incomplete_details"]) == ([], None, None)
    assert (created["model"], created["instructions"], created["temperature"]) == ("m", "be nice", 0.5)
    assert (created["tools"], created["tool_choice"], created["parallel_tool_calls"]) == (
        [{"type": "function"}],
        "auto",
        True,
    )
    assert created["created_at"] > 1_700_000_000
    assert completed["created_at"] == 5
    assert completed["usage"] == {
        **USAGE,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }


def test_a_whole_response_is_filled_too() -> None:
    body = orjson.dumps({**HEAD, "status": "completed", "output": [1], "usage": USAGE})
    filled = orjson.loads(said([body], JSON))
    assert (filled["output"], filled["tools"], filled["usage"]["total_tokens"]) == ([1], [], 10)


def test_what_the_engine_says_itself_is_never_changed() -> None:
    part = {"type": "output_text", "text": "hi", "annotations": [{"type": "url_citation"}], "logprobs": [1]}
    usage = {**USAGE, "input_tokens_details": {"cached_tokens": 5}, "output_tokens_details": {"reasoning_tokens": 2}}
    done, completed = heard(
        [
            _event("response.content_part.done", item_id="msg_1", part=part),
            _event("response.completed", response={**HEAD, "usage": usage}),
        ]
    )
    assert done["part"] == part
    assert completed["response"]["usage"] == usage


def test_parts_are_counted_anew_in_each_item() -> None:
    added = [_event("response.output_item.added", item={"type": "message", "id": name}) for name in ("a", "b")]
    part = [_event("response.content_part.added", item_id=name, part={}) for name in ("a", "b")]
    events = heard([added[0], part[0], part[0], added[1], part[1]])
    assert [event.get("content_index") for event in events] == [None, 0, 1, None, 0]


def test_what_comes_last_without_an_end_is_passed_on() -> None:
    assert said([BARE[0], b"data: half"]).endswith(b"data: half")


def test_events_that_lack_nothing_stay_as_they_are() -> None:
    whole = said(BARE)
    assert said([whole]) == whole


def test_they_stay_to_the_byte() -> None:
    event = b'event: x\ndata: {"type": "response.x",  "sequence_number": 1e0, "output_index": 0}\n\n'
    assert said([event]) == event


@pytest.mark.parametrize(
    "event",
    [
        b": ping\n\n",
        b"data: [DONE]\n\n",
        b'data: {"error":{"message":"slot died"}}\n\n',
        b'event: error\ndata: {"type":"error","message":"no"}\n\n',
        b'data: {"type":"response.\n\n',
        b'data: ["response.created"]\n\n',
        b'data: {"type":7}\n\n',
    ],
)
def test_what_is_no_event_of_a_response_passes(event: bytes) -> None:
    assert said([event]) == event


@pytest.mark.parametrize("body", [b"", b"[]", b'{"error":"no"}', b'{"object":"response"', b'{"object":"list"}'])
def test_a_whole_answer_that_is_no_response_passes(body: bytes) -> None:
    assert said([body], JSON) == body


@given(st.lists(st.sampled_from(BARE)), st.binary(max_size=60), st.integers(0, 60))
def test_any_order_and_any_bytes_are_survived(events: list[bytes], garbage: bytes, cut: int) -> None:
    body = b"".join(events) + b'data: {"type":"response.x",' + garbage
    assert isinstance(said([body[:cut], body[cut:]]), bytes)
    assert isinstance(said([body], asked=garbage), bytes)


def test_a_whole_answer_without_end_is_not_gathered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "MAX_WHOLE_BYTES", 1000)
    with pytest.raises(EngineBroke) as broke:
        said([b"x" * 600] * 2, "application/json")
    assert broke.value.failure.code == "answer_too_large"


def heard(chunks: list[bytes], asked: bytes = b'{"input":"hi"}') -> list[dict[str, Any]]:
    """The payloads of the events that a client hears."""
    lines = said(chunks, asked=asked).splitlines()
    return [orjson.loads(line.removeprefix(b"data: ")) for line in lines if line.startswith(b"data: ")]


def said(chunks: list[bytes], content_type: str = EVENTS, asked: bytes = b"{}") -> bytes:
    """The bytes that a client hears."""

    async def read() -> bytes:
        scripted: EngineAnswer = ScriptedAnswer(chunks, content_type)
        answer = CompletedResponse(scripted, question("/v1/responses", asked), 100_000)
        return b"".join([chunk async for chunk in answer.chunks()])

    return asyncio.run(read())
