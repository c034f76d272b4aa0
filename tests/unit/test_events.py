"""The event splitter: whatever the line ends and however the bytes are chunked, only whole events leave it."""

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from provider.errors import EngineBroke
from provider.protocol.events import EventSplitter, is_only_comments, is_only_opening, split_events
from tests.unit.sse import SseReader, read_blocks

LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINES = st.one_of(
    st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12).map(str.encode),
    st.sampled_from([b"data: x", b"data:", b": ping", b"event: error", b"id: 1", b"data: \xf0\x9f\xa6\x99", b"", b""]),
)
STREAMS = st.one_of(
    st.lists(st.tuples(LINES, LINE_ENDS).map(b"".join), max_size=14).map(b"".join),
    st.lists(st.sampled_from([b"\r", b"\n", b"a", b":", "é".encode()]), max_size=30).map(b"".join),
    st.binary(max_size=60),
)
COMMENTS = st.tuples(st.sampled_from([b": ping", b":", b":a:b", b": data: x"]), LINE_ENDS).map(
    lambda pair: pair[0] + pair[1] * 2
)


@st.composite
def chunked_streams(draw: st.DrawFn) -> list[bytes]:
    """A stream in pieces of any size, empty ones too."""
    stream = draw(STREAMS)
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    return [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]


def split(chunks: Sequence[bytes]) -> tuple[list[bytes], bytes]:
    """The blocks that come out, and what is left at the end."""
    splitter = EventSplitter(2**20)
    blocks = [splitter.feed(chunk) for chunk in chunks]
    return [block for block in blocks if block], splitter.finish()


class TestSplitter:
    @given(chunked_streams())
    def test_no_byte_is_lost_or_changed(self, chunks: list[bytes]) -> None:
        blocks, rest = split(chunks)
        assert b"".join([*blocks, rest]) == b"".join(chunks)

    @given(chunked_streams())
    @example([b"data: a\r", b"\n\r", b"\ndata: b\r\n\r\n"])
    @example([b"data: a\n", b"\r", b"\n", b"data: b\r", b"\r"])
    @example([b"data: a\r\n\r", b"\n: ping\n\n"])
    def test_each_block_is_whole_events_by_itself(self, chunks: list[bytes]) -> None:
        blocks, rest = split(chunks)
        expected = SseReader().feed(b"".join(chunks)).events
        assert read_blocks(blocks) == expected
        assert SseReader().feed(rest).events == []

    @given(chunked_streams())
    def test_the_chunking_makes_no_difference(self, chunks: list[bytes]) -> None:
        blocks, rest = split(chunks)
        at_once, rest_at_once = split([b"".join(chunks)])
        assert read_blocks(blocks) == read_blocks(at_once)
        assert rest.strip(b"\r\n") == rest_at_once.strip(b"\r\n")

    @given(STREAMS)
    def test_byte_by_byte_gives_what_a_whole_gives(self, stream: bytes) -> None:
        blocks, _ = split([bytes([byte]) for byte in stream])
        assert read_blocks(blocks) == SseReader().feed(stream).events

    @pytest.mark.parametrize("end", [b"\n\n", b"\r\r", b"\r\n\r\n", b"\n\r\n", b"\r\n\n", b"\r\n\r"])
    def test_an_event_leaves_with_the_last_byte_of_its_blank_line(self, end: bytes) -> None:
        splitter = EventSplitter(100)
        assert splitter.feed(b"data: x" + end[:-1]) in (b"", b"data: x" + end[:-1])
        splitter = EventSplitter(100)
        assert splitter.feed(b"data: x" + end) == b"data: x" + end

    def test_whole_events_do_not_wait_for_the_half_one_behind_them(self) -> None:
        splitter = EventSplitter(100)
        assert splitter.feed(b"data: 1\n\ndata: 2\n\ndata: 3") == b"data: 1\n\ndata: 2\n\n"
        assert splitter.feed(b"\n\n") == b"data: 3\n\n"

    def test_what_is_left_is_handed_out_once(self) -> None:
        splitter = EventSplitter(100)
        splitter.feed(b"data: [DONE]")
        assert (splitter.finish(), splitter.finish()) == (b"data: [DONE]", b"")

    def test_an_event_without_end_is_given_up_at_the_limit(self) -> None:
        splitter = EventSplitter(1024)
        assert splitter.feed(b"data: " + b"x" * 1018) == b""
        with pytest.raises(EngineBroke) as broke:
            splitter.feed(b"x")
        assert (broke.value.failure.code, broke.value.failure.retryable) == ("engine_bad_stream", False)

    def test_many_whole_events_at_once_are_no_long_event(self) -> None:
        events = b"data: x\n\n" * 1000
        assert EventSplitter(1024).feed(events + b"data: half") == events

    def test_a_long_event_in_many_chunks_costs_no_more_than_a_moment(self) -> None:
        splitter = EventSplitter(16 * 2**20)
        began = time.process_time()
        for _ in range(64):
            assert splitter.feed(b"x" * 65_536) == b""
        assert len(splitter.feed(b"\n\n")) == 64 * 65_536 + 2
        assert time.process_time() - began < 2


class TestComments:
    @given(st.lists(COMMENTS, min_size=1, max_size=4).map(b"".join))
    def test_comments_alone_are_only_comments(self, events: bytes) -> None:
        assert is_only_comments(events)

    @given(chunked_streams())
    @example([b": ping\r\n\r", b"\n: ping\r\n\r\n"])
    def test_judged_by_a_plain_reader(self, chunks: list[bytes]) -> None:
        for block in split(chunks)[0]:
            assert is_only_comments(block) == (not SseReader().feed(block).events), block

    @pytest.mark.parametrize(
        "events",
        [b"data: x\n\n", b": ping\n\ndata: x\n\n", b": ping\ndata: x\n\n", b"data: x\n\n: ping\n\n", b"event: x\n\n"],
    )
    def test_an_event_beside_a_comment_counts(self, events: bytes) -> None:
        assert not is_only_comments(events)


class TestOpenings:
    @pytest.mark.parametrize(
        "delta",
        ['{"role":"assistant"}', '{"role":"assistant","content":null}', '{"role":"assistant","content":""}', "{}"],
    )
    @pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n"])
    def test_a_chunk_that_says_only_whose_turn_it_is(self, delta: str, end: str) -> None:
        event = f'data: {{"id":"1","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}{end}'.encode()
        assert is_only_opening(event)
        assert is_only_opening(event * 2)
        assert is_only_opening(b": ping\n\n" + event + b": ping\n\n")
        assert not is_only_opening(event + b"data: [DONE]\n\n")

    @pytest.mark.parametrize(
        "event",
        [
            '{"choices":[{"delta":{"content":"hi"}}]}',
            '{"choices":[{"delta":{"role":"assistant","content":" "}}]}',
            '{"choices":[{"delta":{"reasoning_content":"hm"}}]}',
            '{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}',
            '{"choices":[{"delta":{},"finish_reason":"stop"}]}',
            '{"choices":[{"delta":{"role":"assistant"}},{"delta":{"content":"hi"}}]}',
            '{"choices":[],"usage":{"prompt_tokens":1}}',
            '{"choices":[{"text":"hi"}]}',
            '{"choices":[{"delta":null}]}',
            '{"choices":null}',
            '{"error":{"message":"x"}}',
            "[DONE]",
            "{half",
            "7",
        ],
    )
    def test_all_else_is_news(self, event: str) -> None:
        assert not is_only_opening(f"data: {event}\n\n".encode())

    @pytest.mark.parametrize(
        "data",
        [
            {"type": "message_start", "message": {"id": "msg_1", "content": [], "usage": {"input_tokens": 7}}},
            {"type": "ping"},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
            {"type": "response.created", "response": {"output": []}},
            {"type": "response.in_progress", "response": {"output": []}},
            {"type": "response.output_item.added", "item": {"type": "message", "content": []}},
            {"type": "response.content_part.added", "part": {"type": "output_text", "text": ""}},
        ],
        ids=lambda data: data["type"],
    )
    def test_messages_and_responses_begin_before_they_say_anything(self, data: dict[str, Any]) -> None:
        assert is_only_opening(b"event: x\ndata: " + orjson.dumps(data) + b"\n\n")

    @pytest.mark.parametrize(
        "data",
        [
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hi"}},
            {"type": "content_block_start", "content_block": {"type": "tool_use", "name": "f", "input": {}}},
            {"type": "content_block_start", "content_block": {"type": "text", "text": "hi"}},
            {"type": "response.output_item.added", "item": {"type": "function_call", "name": "f"}},
            {"type": "response.output_text.delta", "delta": "hi"},
            {"type": "response.completed", "response": {}},
            {"type": "message_stop"},
            {"type": "error", "error": {}},
            {"type": ["message_start"]},
        ],
        ids=lambda data: str(data["type"]),
    )
    def test_their_words_calls_and_ends_are_no_opening(self, data: dict[str, Any]) -> None:
        assert not is_only_opening(b"event: x\ndata: " + orjson.dumps(data) + b"\n\n")

    @given(STREAMS)
    def test_any_bytes_are_survived(self, stream: bytes) -> None:
        assert is_only_opening(stream) in (True, False)


class TestSplitEvents:
    @given(st.lists(st.tuples(st.sampled_from([b"data: x", b": ping", b"id: 1\ndata: y"]), LINE_ENDS), min_size=1))
    def test_takes_a_block_apart_without_loss(self, parts: list[tuple[bytes, bytes]]) -> None:
        events = [text + end * 2 for text, end in parts]
        assert split_events(b"".join(events)) == events

    @given(STREAMS)
    def test_any_bytes_come_back_together(self, stream: bytes) -> None:
        assert b"".join(split_events(stream)) == stream
