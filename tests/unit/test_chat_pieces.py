"""How a streamed answer is read: whole events whatever the network makes of them, comments, errors and broken ends."""

import json
from typing import Any

import pytest

from ghub.chat.errors import AnswerFailed
from ghub.chat.pieces import Ended, Piece, TakenOver, Text, Thought, Used, Waiting, read_pieces
from ghub.client.event_stream import EventTooLong, StreamComment, StreamEvent, read_stream

DONE = b"data: [DONE]\n\n"


def event(**delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return f"data: {json.dumps({'choices': [choice]}, ensure_ascii=False)}\n\n".encode()


def pieces(raw: bytes, *, size: int = 1) -> list[Piece]:
    return [*read_pieces(raw[start : start + size] for start in range(0, len(raw), size))]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_an_answer_is_read_whole_however_it_is_cut(size: int, end: str) -> None:
    last = b'data: {"choices": [{"delta": {}, "finish_reason": "length"}], "usage": {"completion_tokens": 7}}\n\n'
    raw = (
        b": queued, 3 ahead\n\n: continued by desk, attempt 2\n\n"
        + event(role="assistant")
        + event(content="grü\u2028n")
        + last
        + DONE
        + b"\n"  # a lone carriage return may be half of a line's end until something follows
    )
    raw = raw.replace(b"\n", end.encode())
    assert pieces(raw, size=size) == [
        Waiting("queued, 3 ahead"),
        TakenOver("desk"),
        Text("grü\u2028n"),
        Used(7),
        Ended("length"),
    ]


def test_what_a_model_thinks_is_told_from_what_it_says() -> None:
    raw = event(reasoning_content="hm", content=None) + event(reasoning="so") + event(content="yes") + DONE
    assert pieces(raw) == [Thought("hm"), Thought("so"), Text("yes")]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (event(content="a"), "broke off"),
        (b'data: {"error": {"message": "the node is\\u001b[2J gone"}}\n\n' + DONE, "the node is?[2J gone"),
        (b'data: {"error": "bad"}\n\n', "bad"),
        (b"data: {\n\n", "no JSON"),
    ],
)
def test_an_answer_that_is_none_fails_in_one_line(raw: bytes, said: str) -> None:
    with pytest.raises(AnswerFailed, match=r"^[^\n]+$") as failed:
        pieces(raw)
    assert said in str(failed.value)


@pytest.mark.parametrize("data", ["[]", "1", "null", '{"choices": []}', '{"choices": [1]}', '{"choices": [{}]}', "{}"])
def test_events_that_say_nothing_are_passed_over(data: str) -> None:
    assert pieces(f"data: {data}\n\n".encode() + DONE) == []


def test_events_have_names_and_many_lines_and_one_without_its_end_is_none() -> None:
    raw = b"event: patch\nid: 7\nretry: 1\ndata: a\ndata:b\n\n:hello\ndata: left"
    assert [*read_stream([raw])] == [StreamEvent("patch", "a\nb"), StreamComment("hello")]


def test_what_never_ends_is_given_up() -> None:
    with pytest.raises(EventTooLong):
        [*read_stream(b"data: " + b"x" * 2**20 + b"\n" for _ in range(40))]
    with pytest.raises(EventTooLong):
        [*read_stream(b"x" * 2**20 for _ in range(40))]
