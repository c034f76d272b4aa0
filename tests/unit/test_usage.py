"""Token counts are read where an engine tells them, and left open where it doesn't."""

from collections.abc import Callable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.wire import Usage
from provider.protocol.usage import estimate_usage, read_events_usage, read_lines_usage, read_usage

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
        assert read_events_usage(tail) == Usage(7, 42)

    def test_the_later_of_two_counts_wins(self) -> None:
        first = WITH_USAGE.replace(b"42", b"1")
        assert read_events_usage(first + WITH_USAGE) == Usage(7, 42)

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
        assert read_events_usage(tail) == Usage()

    def test_text_that_speaks_of_usage_is_no_usage(self) -> None:
        tail = b'data: {"choices":[{"delta":{"content":"my \\"usage\\": 5"}}]}\n\n'
        assert read_events_usage(WITH_USAGE + tail) == Usage(7, 42)


class TestWhole:
    def test_a_whole_answer_tells_it_at_its_end(self) -> None:
        body = orjson.dumps(
            {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 42}}, option=orjson.OPT_INDENT_2
        )
        assert read_usage(body) == Usage(7, 42)

    @pytest.mark.parametrize("body", [b"", b'plain text with "usage"', b'["usage"]', b'{"usage":5}', b"{}"])
    def test_what_is_not_said_stays_open(self, body: bytes) -> None:
        assert read_usage(body) == Usage()


class TestOtherForms:
    START = (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","role":"assistant",'
        b'"usage":{"input_tokens":7,"output_tokens":1}}}\n\n'
    )
    DELTA = b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":42}}\n\n'
    STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

    def test_messages_tell_of_the_prompt_first_and_of_the_rest_last(self) -> None:
        assert read_events_usage(self.DELTA + self.STOP, self.START) == Usage(7, 42)
        assert read_events_usage(self.DELTA + self.STOP) == Usage(None, 42)

    def test_messages_that_tell_all_at_the_end_are_read_there(self) -> None:
        whole = self.DELTA.replace(b'{"output_tokens"', b'{"input_tokens":9,"output_tokens"')
        assert read_events_usage(whole + self.STOP, self.START) == Usage(9, 42)

    def test_what_messages_read_from_a_cache_counts_as_prompt_too(self) -> None:
        cached = {"cache_read_input_tokens": 3, "cache_creation_input_tokens": 2}
        body = orjson.dumps({"usage": {"input_tokens": 2, "output_tokens": 42} | cached})
        assert read_usage(body) == Usage(7, 42)

    def test_responses_tell_it_in_the_response_that_is_complete(self) -> None:
        usage = {"input_tokens": 7, "input_tokens_details": {"cached_tokens": 5}, "output_tokens": 42}
        response = {"id": "resp_1", "output": [{"text": "x" * 10_000}], "usage": usage}
        event = b"event: response.completed\ndata: " + orjson.dumps(
            {"type": "response.completed", "response": response}
        )
        assert read_events_usage(CHUNK + event + b"\n\n") == Usage(7, 42)
        assert read_usage(orjson.dumps(response)) == Usage(7, 42)

    def test_embeddings_take_a_prompt_alone(self) -> None:
        body = b'{"data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":7,"total_tokens":7}}'
        assert read_usage(body) == Usage(7, None)

    def test_ollama_s_own_paths_tell_it_in_their_last_line(self) -> None:
        last = b'{"model":"m","done":true,"prompt_eval_count":7,"eval_count":42}\n'
        assert read_lines_usage(b'{"response":"hi","done":false}\n' + last) == Usage(7, 42)
        assert read_usage(last) == Usage(7, 42)
        assert read_lines_usage(b'{"response":"eval_count","done":false}\n') == Usage()

    def test_a_prompt_that_was_in_its_cache_is_not_told_by_ollama(self) -> None:
        assert read_lines_usage(b'{"done":true,"eval_count":42}\n') == Usage(None, 42)

    @given(st.binary(max_size=80))
    def test_any_lines_are_survived(self, tail: bytes) -> None:
        assert isinstance(read_lines_usage(b'{"eval_count":' + tail), Usage)


@pytest.mark.parametrize("count", [b"-1", b'"7"', b"7.5", b"null", b"[]", b"true"])
def test_a_count_that_is_none_stays_open(count: bytes) -> None:
    body = b'{"usage":{"prompt_tokens":%b,"completion_tokens":42}}' % count
    usage = read_usage(body)
    assert usage == Usage(None, 42)
    assert usage.prompt_tokens is None


def test_a_count_of_the_prompt_alone_is_enough() -> None:
    assert read_usage(b'{"usage":{"prompt_tokens":7}}') == Usage(7, None)


@given(st.binary(max_size=80), st.sampled_from([read_usage, read_events_usage]))
def test_any_bytes_are_survived(tail: bytes, read: Callable[[bytes], Usage]) -> None:
    for one in (tail, b'data: {"usage":' + tail):
        assert isinstance(read(one), Usage)


class TestEstimates:
    TEXTS = (
        b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n',
        b'data: {"choices":[{"text":"hi"}]}\n\n',
        b'data: {"choices":[{"delta":{"reasoning_content":"hm","content":null}}]}\n\n',
        b'event: x\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"hi"}}\n\n',
        b'event: x\ndata: {"type":"response.output_text.delta","delta":"hi"}\n\n',
    )
    SILENT = (b'data: {"choices":[{"delta":{"content":""},"finish_reason":"stop"}]}\n\n', DONE)

    @given(st.lists(st.sampled_from(TEXTS)), st.lists(st.sampled_from(SILENT), max_size=8))
    def test_events_that_bring_text_are_counted(self, said: list[bytes], last: list[bytes]) -> None:
        events = said + last
        assert estimate_usage(Usage(7, None), len(events), events[-8:]) == Usage(7, len(said), is_estimate=True)

    def test_lines_are_counted_likewise(self) -> None:
        lines = [b'{"message":{"content":"hi"},"done":false}\n'] * 5 + [b'{"message":{"content":""},"done":true}\n']
        assert estimate_usage(Usage(), 6, lines) == Usage(None, 5, is_estimate=True)

    def test_what_the_engine_said_is_no_estimate(self) -> None:
        assert estimate_usage(Usage(None, 0), 5, [CHUNK]) == Usage(None, 0)
