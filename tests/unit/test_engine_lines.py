"""Ollama's own streams: lines of JSON, relayed whole and as they are, under the same rules as events."""

from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.wire import Failure, ReplyEntry, Start, Usage
from provider.errors import EngineBroke, EngineFull
from provider.protocol.lines import LineSplitter
from tests.support.entries import is_last
from tests.unit.engine_script import FOR_EVER, NODE, ScriptedAnswer, ScriptedEngine, Step, relay, relayed
from tests.unit.virtual_time import in_virtual_time

NDJSON = "application/x-ndjson"
TURN = b'{"model":"m","created_at":"t","message":{"role":"assistant","content":""},"done":false}\n'
WORD = b'{"model":"m","created_at":"t","message":{"role":"assistant","content":"hi"},"done":false}\n'
TEXT = b'{"model":"m","created_at":"t","response":"hi","done":false}\n'
LAST = (
    b'{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop",'
    b'"total_duration":5,"prompt_eval_count":7,"eval_count":3}\n'
)
WHOLE = WORD * 3 + LAST
ERROR = b'{"error":"an error was encountered while running the model"}\n'
BROKEN_OFF = EngineBroke(Failure(502, "engine_disconnected", "gone", retryable=True))


def split(chunks: list[bytes]) -> tuple[list[bytes], bytes]:
    """The blocks that come out, and what is left at the end."""
    splitter = LineSplitter(2**20)
    blocks = [splitter.feed(chunk) for chunk in chunks]
    return [block for block in blocks if block], splitter.finish()


class TestSplitter:
    @given(st.lists(st.binary(max_size=10) | st.sampled_from([b"\n", b'{"a":1}\n', b"x\ny"]), max_size=12))
    def test_no_byte_is_lost_and_each_block_is_whole_lines(self, chunks: list[bytes]) -> None:
        blocks, rest = split(chunks)
        assert b"".join([*blocks, rest]) == b"".join(chunks)
        assert all(block.endswith(b"\n") for block in blocks)
        assert b"\n" not in rest

    def test_whole_lines_do_not_wait_for_the_half_one_behind_them(self) -> None:
        assert LineSplitter(100).feed(WORD + WORD + b'{"half') == WORD + WORD

    def test_a_line_without_an_end_is_refused_at_its_limit(self) -> None:
        splitter = LineSplitter(1000)
        for _ in range(10):
            assert splitter.feed(b"x" * 100) == b""
        with pytest.raises(EngineBroke) as caught:
            splitter.feed(b"x")
        assert (caught.value.failure.code, caught.value.failure.retryable) == ("engine_bad_stream", False)

    def test_many_lines_together_may_be_longer_than_one(self) -> None:
        assert LineSplitter(200).feed(WORD * 50 + b"{") == WORD * 50


class TestStreams:
    def test_a_stream_arrives_as_it_was_said_with_its_head_and_its_end(self) -> None:
        outcome = relayed([WORD, WORD, LAST], content_type=NDJSON)
        assert outcome.failed is None
        assert outcome.reply.entries == [
            ReplyEntry(start=Start(200, NDJSON, NODE), data=WORD),
            ReplyEntry(data=WORD),
            ReplyEntry(data=LAST, end=Usage(7, 3)),
        ]

    @given(st.lists(st.integers(0, len(WHOLE)), max_size=12).map(sorted))
    def test_however_it_is_chunked_only_whole_lines_go_out(self, cuts: list[int]) -> None:
        chunks = [WHOLE[start:end] for start, end in pairwise([0, *cuts, len(WHOLE)])]
        entries = relayed(chunks, content_type=NDJSON + "; charset=utf-8").reply.entries
        assert b"".join(entry.data for entry in entries) == WHOLE
        assert all(orjson.loads(line) for entry in entries for line in entry.data.splitlines())
        assert [entry.start is not None for entry in entries] == [True] + [False] * (len(entries) - 1)
        assert [entry.end for entry in entries if entry.end is not None] == [entries[-1].end] == [Usage(7, 3)]

    @pytest.mark.parametrize("opening", [TURN, b"\n", b'{"response":"","done":false}\n', TURN + TURN])
    def test_a_line_without_a_word_binds_the_client_to_nothing(self, opening: bytes) -> None:
        outcome = relayed([opening, FOR_EVER], content_type=NDJSON)
        assert outcome.code == "first_token_timeout"
        assert outcome.reply.entries == []

    @pytest.mark.parametrize(
        "line",
        [
            WORD,
            TEXT,
            b'{"message":{"role":"assistant","content":"","thinking":"hm"},"done":false}\n',
            b'{"message":{"content":"","tool_calls":[{"function":{"name":"f"}}]},"done":false}\n',
            b'{"response":"","thinking":"hm","done":false}\n',
        ],
    )
    def test_what_came_before_the_first_word_goes_with_it(self, line: bytes) -> None:
        entries = relayed([TURN, line, LAST], content_type=NDJSON).reply.entries
        assert entries[0] == ReplyEntry(start=Start(200, NDJSON, NODE), data=TURN + line)

    def test_an_answer_without_a_word_that_is_said_to_be_done_is_one(self) -> None:
        """An empty chat only loads the model."""
        outcome = relayed([LAST], content_type=NDJSON)
        assert outcome.failed is None
        assert outcome.reply.data == LAST

    def test_a_last_line_without_its_end_is_completed(self) -> None:
        outcome = relayed([WORD, LAST.rstrip()], content_type=NDJSON)
        assert outcome.failed is None
        assert outcome.reply.data == WORD + LAST

    def test_silence_between_two_lines_ends_the_attempt_and_keeps_them(self) -> None:
        outcome = relayed([WORD, FOR_EVER], content_type=NDJSON)
        assert outcome.code == "token_timeout"
        assert outcome.reply.data == WORD

    def test_blank_lines_are_no_words(self) -> None:
        steps: list[Step] = [step for _ in range(1000) for step in (b"\n", 10.0)]
        assert relayed([WORD, *steps], content_type=NDJSON).code == "token_timeout"


class TestErrors:
    @pytest.mark.parametrize(
        "steps",
        [
            [WORD, WORD, ERROR],
            [WORD + WORD + ERROR],
            [WORD + WORD + ERROR[:9], ERROR[9:]],
            [WORD + WORD, ERROR.rstrip()],
            [WORD + WORD + ERROR + WORD],
        ],
        ids=["apart", "in-one-chunk", "cut", "unfinished", "and-more"],
    )
    def test_an_error_in_mid_stream_ends_the_attempt_after_what_was_said(self, steps: list[Step]) -> None:
        outcome = relayed(steps, content_type=NDJSON)
        assert outcome.failed is not None
        message = "an error was encountered while running the model"
        assert outcome.failed.failure == Failure(502, "engine_error", message, retryable=True, type="server_error")
        assert outcome.reply.data == WORD + WORD
        assert not any(is_last(entry) for entry in outcome.reply.entries)

    @pytest.mark.parametrize("steps", [[ERROR], [TURN, ERROR], [TURN + ERROR], [b"\n", ERROR]])
    def test_an_error_instead_of_words_leaves_the_reply_unbegun(self, steps: list[Step]) -> None:
        outcome = relayed(steps, content_type=NDJSON)
        assert outcome.code == "engine_error"
        assert outcome.reply.entries == []

    def test_words_about_an_error_are_only_words(self) -> None:
        line = b'{"message":{"content":"an \\"error\\": here"},"done":false}\n'
        assert relayed([line, LAST], content_type=NDJSON).reply.data == line + LAST

    @pytest.mark.parametrize("steps", [[WORD], [WORD, WORD, TURN], [WORD, b'{"done":'], [WORD, b"17\n"]])
    def test_a_stream_that_is_not_said_to_be_done_was_broken_off(self, steps: list[Step]) -> None:
        outcome = relayed(steps, content_type=NDJSON)
        assert outcome.failed is not None
        assert (outcome.code, outcome.failed.failure.retryable) == ("engine_disconnected", True)
        assert not any(is_last(entry) for entry in outcome.reply.entries)

    def test_half_a_line_before_a_broken_connection_is_not_said(self) -> None:
        assert relayed([WORD + b'{"mess', BROKEN_OFF], content_type=NDJSON).reply.data == WORD

    def test_an_answer_that_grows_too_large_is_cut_off(self) -> None:
        outcome = relayed([WORD] * 1000, content_type=NDJSON, max_answer_bytes=1024)
        assert outcome.code == "answer_too_large"
        assert len(outcome.reply.data) <= 1024

    @pytest.mark.parametrize("steps", [[], [b"\n"], [TURN]])
    def test_an_answer_without_a_word_is_a_failure(self, steps: list[Step]) -> None:
        assert relayed(steps, content_type=NDJSON).code == "engine_empty_answer"

    def test_a_model_that_does_not_fit_is_given_back_and_not_failed(self) -> None:
        full = orjson.dumps({"error": "llama runner process has terminated: cudaMalloc failed: out of memory"}) + b"\n"
        with pytest.raises(EngineFull, match="out of memory"):
            in_virtual_time(relay(ScriptedEngine(ScriptedAnswer([full], NDJSON))))
        assert relayed([WORD, full], content_type=NDJSON).code == "engine_error"
