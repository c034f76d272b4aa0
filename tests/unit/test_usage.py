"""Token counts are read where an engine tells them, and left open where it doesn't."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.wire import Usage
from provider.usage import read_usage

CHUNK = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
WITH_USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":42,"total_tokens":49}}\n\n'
TIMINGS = b'data: {"choices":[],"timings":{"prompt_n":3,"cache_n":4,"predicted_n":42}}\n\n'
DONE = b"data: [DONE]\n\n"


class TestStreamed:
    @pytest.mark.parametrize(
        "tail",
        [
            CHUNK + WITH_USAGE + DONE,
            CHUNK + TIMINGS + DONE,
            (CHUNK + WITH_USAGE + DONE).replace(b"\n", b"\r\n"),
            (CHUNK + WITH_USAGE + DONE).replace(b"\n", b"\r"),
            b'ntent":"cut off in fro' + CHUNK + WITH_USAGE,
            WITH_USAGE + CHUNK + b": ping\n\n" + DONE,
            WITH_USAGE.replace(b"data: ", b"data:") + DONE,
            WITH_USAGE + b'data: {"usage":null}\n\n' + DONE,
        ],
        ids=["openai", "llamacpp", "crlf", "cr", "cut", "then-more", "no-space", "then-null"],
    )
    def test_the_last_count_of_a_stream_is_found(self, tail: bytes) -> None:
        assert read_usage(tail, streamed=True) == Usage(7, 42)

    def test_the_later_of_two_counts_wins(self) -> None:
        first = WITH_USAGE.replace(b"42", b"1")
        assert read_usage(first + WITH_USAGE, streamed=True) == Usage(7, 42)

    @pytest.mark.parametrize(
        "tail",
        [
            b"",
            CHUNK + DONE,
            b'data: {"usage":null}\n\n',
            b'data: {"usage":{"pro',
            b': {"usage":{"prompt_tokens":1}}\n\n',
        ],
    )
    def test_what_is_not_said_stays_open(self, tail: bytes) -> None:
        assert read_usage(tail, streamed=True) == Usage()

    def test_text_that_speaks_of_usage_is_no_usage(self) -> None:
        tail = b'data: {"choices":[{"delta":{"content":"my \\"usage\\": 5"}}]}\n\n'
        assert read_usage(WITH_USAGE + tail, streamed=True) == Usage(7, 42)


class TestWhole:
    def test_a_whole_answer_tells_it_at_its_end(self) -> None:
        body = orjson.dumps(
            {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 42}}, option=orjson.OPT_INDENT_2
        )
        assert read_usage(body, streamed=False) == Usage(7, 42)

    @pytest.mark.parametrize("body", [b"", b'plain text with "usage"', b'["usage"]', b'{"usage":5}', b"{}"])
    def test_what_is_not_said_stays_open(self, body: bytes) -> None:
        assert read_usage(body, streamed=False) == Usage()


@pytest.mark.parametrize("count", [b"-1", b'"7"', b"7.5", b"null", b"[]", b"true"])
def test_a_count_that_is_none_stays_open(count: bytes) -> None:
    body = b'{"usage":{"prompt_tokens":%b,"completion_tokens":42}}' % count
    usage = read_usage(body, streamed=False)
    assert usage == Usage(None, 42)
    assert usage.prompt_tokens is None


def test_a_count_of_the_prompt_alone_is_enough() -> None:
    assert read_usage(b'{"usage":{"prompt_tokens":7}}', streamed=False) == Usage(7, None)


@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_are_survived(tail: bytes, streamed: bool) -> None:
    for one in (tail, b'data: {"usage":' + tail):
        assert isinstance(read_usage(one, streamed=streamed), Usage)
