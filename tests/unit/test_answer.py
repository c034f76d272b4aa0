"""From an engine's answer to a reply: whole events, the bytes as they are, a failure for every way of going wrong."""

import asyncio
from itertools import pairwise
from typing import cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.wire import Failure, ReplyEntry, Start, Usage
from provider.answers.answer import relay_answer
from provider.engines.metering import MeteredAnswer
from provider.errors import EngineBroke, EngineDown, EngineFull
from provider.protocol.engine import Question
from provider.replies.reply import Reply
from tests.support.entries import is_last
from tests.unit.engine_script import (
    EVENTS,
    JSON,
    NODE,
    RecordingReply,
    ScriptedAnswer,
    ScriptedEngine,
    Step,
    a_job,
    relay,
    relayed,
    some_settings,
)
from tests.unit.sse import SseReader, read_blocks
from tests.unit.virtual_time import in_virtual_time

ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":null},"finish_reason":null}]}\n\n'
TOKEN = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
LAST = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
COMPLETED = b'event: response.completed\ndata: {"type":"response.completed","response":{"usage":null}}\n\n'
WHOLE = TOKEN * 3 + LAST + DONE
ERROR = b'data: {"error":{"code":500,"message":"slot died","type":"server_error"}}\n\n'
BROKEN_OFF = EngineBroke(Failure(502, "engine_disconnected", "gone", retryable=True))


class TestStreams:
    def test_a_stream_arrives_as_it_was_said_with_its_head_and_its_end(self) -> None:
        outcome = relayed([TOKEN, TOKEN, TOKEN, LAST, DONE])
        assert outcome.failed is None
        assert outcome.reply.entries == [
            ReplyEntry(start=Start(200, EVENTS, NODE), data=TOKEN),
            ReplyEntry(data=TOKEN),
            ReplyEntry(data=TOKEN),
            ReplyEntry(data=LAST),
            ReplyEntry(data=DONE, end=Usage(7, 3)),
        ]
        assert outcome.engine.is_closed

    @given(st.lists(st.integers(0, len(WHOLE)), max_size=12).map(sorted))
    def test_however_it_is_chunked_only_whole_events_go_out(self, cuts: list[int]) -> None:
        chunks = [WHOLE[start:end] for start, end in pairwise([0, *cuts, len(WHOLE)])]
        entries = relayed(chunks).reply.entries
        assert b"".join(entry.data for entry in entries) == WHOLE
        assert read_blocks(entry.data for entry in entries) == SseReader().feed(WHOLE).events
        assert [entry.start is not None for entry in entries] == [True] + [False] * (len(entries) - 1)
        assert [entry.end for entry in entries if entry.end is not None] == [entries[-1].end] == [Usage(7, 3)]

    def test_the_last_word_comes_with_the_end_since_its_client_may_leave_then(self) -> None:
        for events, last in (
            ([TOKEN, LAST, DONE], DONE),
            ([TOKEN + LAST + DONE], TOKEN + LAST + DONE),
            ([TOKEN, STOP, b": ping\n\n"], STOP),
            ([TOKEN, STOP], STOP),
            ([TOKEN, COMPLETED], COMPLETED),
        ):
            entry = relayed(events).reply.entries[-1]
            assert (entry.data, entry.end is not None) == (last, True), events

    def test_an_engine_that_breaks_off_after_its_last_word_has_answered(self) -> None:
        outcome = relayed([TOKEN, LAST, DONE, BROKEN_OFF])
        assert (outcome.failed, outcome.reply.entries[-1]) == (None, ReplyEntry(data=DONE, end=Usage(7, 3)))

    def test_what_only_looks_like_the_last_word_is_not_lost(self) -> None:
        quoted = b'data: {"choices":[{"delta":{"content":"[DONE] message_stop"}}]}\n\n'
        outcome = relayed([quoted, DONE, TOKEN, DONE])
        assert [entry.data for entry in outcome.reply.entries] == [quoted, DONE, TOKEN, DONE]

    def test_an_end_without_its_blank_line_is_completed(self) -> None:
        outcome = relayed([TOKEN, DONE.rstrip()])
        assert outcome.failed is None
        assert outcome.reply.data == TOKEN + DONE

    def test_usage_in_the_last_words_is_found_even_without_a_blank_line(self) -> None:
        assert relayed([TOKEN, LAST.rstrip()]).reply.entries[-1] == ReplyEntry(end=Usage(7, 3))

    def test_without_any_usage_the_words_are_counted_and_called_an_estimate(self) -> None:
        end = relayed([ROLE, b": ping\n\n", TOKEN, TOKEN + TOKEN, b": ping\n\n", DONE]).reply.entries[-1]
        assert end == ReplyEntry(data=DONE, end=Usage(None, 3, is_estimate=True))

    def test_usage_that_its_client_does_not_see_is_told_all_the_same(self) -> None:
        reply = RecordingReply()
        answer = MeteredAnswer(ScriptedAnswer([TOKEN, LAST + DONE]), 10_000)
        engine = ScriptedEngine(cast(ScriptedAnswer, answer))
        in_virtual_time(relay_answer(engine, a_job(), cast(Reply, reply), NODE, some_settings()))
        assert reply.data == TOKEN + DONE
        assert reply.entries[-1] == ReplyEntry(data=DONE, end=Usage(7, 3))

    def test_the_job_s_own_bytes_are_what_the_engine_is_asked(self) -> None:
        assert relayed([WHOLE]).engine.asked == [Question.of(a_job())]

    def test_comments_before_the_first_word_bind_the_client_to_nothing(self) -> None:
        """A hub that has sent anything can't give the job to another node."""
        entries = relayed([b": ping\n\n", b": ping\n\n", TOKEN, b": ping\n\n", DONE]).reply.entries
        assert entries[0] == ReplyEntry(start=Start(200, EVENTS, NODE), data=TOKEN)

    def test_whose_turn_it_is_waits_for_the_first_word(self) -> None:
        """Engines say it before they have worked at all; it must not bind the client either."""
        entries = relayed([ROLE, b": ping\n\n", TOKEN, DONE]).reply.entries
        assert entries[0] == ReplyEntry(start=Start(200, EVENTS, NODE), data=ROLE + b": ping\n\n" + TOKEN)

    def test_words_about_an_error_are_only_words(self) -> None:
        event = b'data: {"choices":[{"delta":{"content":"an \\"error\\": {} here"}}],"error":null}\n\n'
        outcome = relayed([event, DONE])
        assert outcome.failed is None
        assert outcome.reply.data == event + DONE


class TestOtherApis:
    """Messages and responses are events too, each with a name and an end of its own."""

    START = b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":7}}}\n\n'
    BLOCK = b'event: block\ndata: {"type":"content_block_start","content_block":{"type":"text","text":""}}\n\n'
    SAID = b'event: delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"hi"}}\n\n'
    DELTA = b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":3}}\n\n'

    def test_a_message_is_relayed_untouched_and_counted(self) -> None:
        steps = [self.START, self.BLOCK, *[self.SAID] * 1000, self.DELTA, STOP]
        outcome = relayed(steps)
        assert outcome.failed is None
        assert outcome.reply.data == b"".join(steps)
        assert outcome.reply.entries[0].data == self.START + self.BLOCK + self.SAID
        assert outcome.reply.entries[-1] == ReplyEntry(data=STOP, end=Usage(7, 3))

    def test_a_long_response_is_relayed_untouched_and_counted(self) -> None:
        """Its last event holds all of it again."""
        response = {"output": [{"text": "x" * 10_000}], "usage": {"input_tokens": 7, "output_tokens": 3}, "error": None}
        created = b'event: response.created\ndata: {"type":"response.created","response":{"error":null}}\n\n'
        word = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"hi"}\n\n'
        last = orjson.dumps({"type": "response.completed", "response": response})
        steps = [created, word, word, b"event: response.completed\ndata: " + last + b"\n\n", DONE]
        outcome = relayed(steps)
        assert outcome.failed is None
        assert outcome.reply.data == b"".join(steps)
        assert outcome.reply.entries[0].data == created + word
        assert outcome.reply.entries[-1] == ReplyEntry(data=DONE, end=Usage(7, 3))

    def test_an_error_before_the_first_word_leaves_the_reply_unbegun(self) -> None:
        error = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"busy"}}\n\n'
        outcome = relayed([self.START, self.BLOCK, error])
        assert outcome.code == "engine_unavailable"
        assert outcome.reply.entries == []


class TestWantOfMemory:
    FULL = b'data: {"error":{"code":500,"message":"CUDA error: out of memory","type":"server_error"}}\n\n'

    @pytest.mark.parametrize("steps", [[FULL], [ROLE, FULL], [b": ping\n\n" + ROLE + FULL + DONE]])
    def test_before_the_first_word_it_is_no_failure(self, steps: list[Step]) -> None:
        """The job is to be given back: the node is only too full for it now."""
        with pytest.raises(EngineFull, match="out of memory"):
            in_virtual_time(relay(ScriptedEngine(ScriptedAnswer(steps))))

    @pytest.mark.parametrize("steps", [[TOKEN, FULL], [ROLE + TOKEN + FULL]])
    def test_after_it_the_attempt_has_failed(self, steps: list[Step]) -> None:
        outcome = relayed(steps)
        assert outcome.code == "engine_error"
        assert outcome.reply.data.endswith(TOKEN)

    def test_in_a_whole_answer_it_is_none_either(self) -> None:
        body = b'{"error":"Failed to load model: insufficient system resources"}'
        with pytest.raises(EngineFull):
            in_virtual_time(relay(ScriptedEngine(ScriptedAnswer([body], JSON)), stream=False))


class TestErrorsInStreams:
    @pytest.mark.parametrize(
        "steps",
        [
            [TOKEN, TOKEN, ERROR, TOKEN, DONE],
            [TOKEN + TOKEN + ERROR + TOKEN + DONE],
            [TOKEN, TOKEN + ERROR[:20], ERROR[20:], DONE],
            [TOKEN + TOKEN, ERROR.rstrip()],
            [TOKEN + TOKEN + b"event: error\n" + ERROR + DONE],
            [TOKEN + TOKEN + b'error: {"code":500,"message":"slot died","type":"server_error"}\n\n' + DONE],
            [TOKEN, TOKEN, b'error: {"code":500,"message":"slot died","type":"server_error"}\n\n', DONE],
        ],
        ids=["apart", "in-one-chunk", "cut", "unfinished", "event-field", "llamacpp-old-in-one", "llamacpp-old"],
    )
    def test_an_error_in_mid_stream_ends_the_attempt_after_what_was_said(self, steps: list[Step]) -> None:
        outcome = relayed(steps)
        assert outcome.failed is not None
        assert outcome.failed.failure == Failure(502, "engine_error", "slot died", retryable=True, type="server_error")
        assert outcome.reply.data == TOKEN + TOKEN
        assert not any(is_last(entry) for entry in outcome.reply.entries)
        assert outcome.engine.is_closed

    @pytest.mark.parametrize(
        "steps",
        [
            [ERROR, DONE],
            [ERROR + DONE],
            [b": ping\n\n" + ERROR],
            [ROLE, ERROR],
            [ROLE + ERROR],
            [ROLE, b": ping\n\n", ERROR],
        ],
    )
    def test_an_error_instead_of_a_stream_leaves_the_reply_unbegun(self, steps: list[Step]) -> None:
        """So that the client still gets a true status, or another node the job."""
        outcome = relayed(steps)
        assert outcome.code == "engine_error"
        assert outcome.reply.entries == []

    @pytest.mark.parametrize("steps", [[ROLE, TOKEN + ERROR], [ROLE + TOKEN + ERROR], [ROLE, TOKEN, ERROR]])
    def test_an_error_right_after_the_first_word_loses_nothing_before_it(self, steps: list[Step]) -> None:
        outcome = relayed(steps)
        assert outcome.code == "engine_error"
        assert outcome.reply.data == ROLE + TOKEN

    def test_a_client_s_own_mistake_is_not_tried_again(self) -> None:
        outcome = relayed([b'data: {"error":{"code":400,"message":"context full"}}\n\n'])
        assert outcome.failed is not None
        assert (outcome.failed.failure.status, outcome.failed.failure.retryable) == (400, False)

    @pytest.mark.parametrize("steps", [[], [b""], [b"\n\n"], [b"\r\n"]])
    def test_an_answer_without_a_word_is_a_failure(self, steps: list[Step]) -> None:
        outcome = relayed(steps)
        assert outcome.code == "engine_empty_answer"
        assert outcome.failed is not None
        assert outcome.failed.failure.retryable
        assert not any(is_last(entry) for entry in outcome.reply.entries)

    def test_a_broken_connection_keeps_what_was_said(self) -> None:
        outcome = relayed([TOKEN, BROKEN_OFF])
        assert outcome.code == "engine_disconnected"
        assert outcome.reply.data == TOKEN
        assert not any(is_last(entry) for entry in outcome.reply.entries)

    def test_half_an_event_before_a_broken_connection_is_not_said(self) -> None:
        assert relayed([TOKEN + b"data: {", BROKEN_OFF]).reply.data == TOKEN

    def test_an_answer_that_grows_too_large_is_cut_off(self) -> None:
        outcome = relayed([TOKEN] * 1000, max_answer_bytes=1024)
        assert outcome.failed is not None
        assert (outcome.code, outcome.failed.failure.retryable) == ("answer_too_large", False)
        assert len(outcome.reply.data) <= 1024
        assert outcome.engine.is_closed

    def test_an_answer_of_just_the_limit_passes(self) -> None:
        steps: list[Step] = [b"data: " + b"x" * (1024 - 8) + b"\n\n"]
        assert relayed(steps, max_answer_bytes=1024).failed is None


class TestWholeAnswers:
    BODY = orjson.dumps({"choices": [{"text": "hi"}], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})

    def test_a_whole_answer_has_its_head_its_bytes_and_its_end(self) -> None:
        outcome = relayed([self.BODY[:9], self.BODY[9:]], content_type=JSON, stream=False)
        assert outcome.reply.entries == [
            ReplyEntry(start=Start(200, JSON, NODE), data=self.BODY),
            ReplyEntry(end=Usage(7, 3)),
        ]

    def test_a_long_one_goes_in_pieces_and_comes_out_whole(self) -> None:
        body = orjson.dumps({"text": "x" * 5000})
        entries = relayed([body], content_type=JSON, stream=False, reply_buffer_bytes=1024).reply.entries
        assert b"".join(entry.data for entry in entries) == body
        assert max(len(entry.data) for entry in entries) <= 1024
        assert [entry.start is not None for entry in entries] == [True] + [False] * (len(entries) - 1)
        assert is_last(entries[-1])

    @pytest.mark.parametrize("body", [b"", b'{"choices":', b"<html>proxy</html>", b"{}x"])
    def test_json_that_is_none_is_a_failure_and_nothing_of_it_is_said(self, body: bytes) -> None:
        outcome = relayed([body], content_type="application/json; charset=utf-8", stream=False)
        assert outcome.failed is not None
        assert (outcome.code, outcome.failed.failure.retryable) == ("engine_bad_answer", True)
        assert outcome.reply.entries == []

    def test_an_error_under_a_good_status_is_an_error_all_the_same(self) -> None:
        """LM Studio says so of paths that it doesn't have."""
        body = b'{"error":"Unexpected endpoint or method. (POST /v1/x). Returning 200 anyway"}'
        outcome = relayed([body], content_type=JSON, stream=False)
        assert outcome.failed is not None
        assert (outcome.code, outcome.failed.failure.status) == ("engine_error", 502)
        assert outcome.reply.entries == []

    def test_no_error_is_none(self) -> None:
        body = b'{"object":"response","error":null,"output":[]}'
        assert relayed([body], content_type=JSON, stream=False).reply.data == body

    @pytest.mark.parametrize("body", [b"", b"plain", b"\xff\x00"])
    def test_other_types_pass_as_they_are(self, body: bytes) -> None:
        outcome = relayed([body], content_type="audio/wav", stream=False)
        assert outcome.failed is None
        assert outcome.reply.data == body
        assert outcome.reply.entries[-1] == ReplyEntry(end=Usage())

    def test_one_that_grows_too_large_is_cut_off_and_not_read_on(self) -> None:
        outcome = relayed([b"x" * 512] * 1000, content_type=JSON, stream=False, max_answer_bytes=1024)
        assert outcome.code == "answer_too_large"
        assert outcome.reply.entries == []
        assert outcome.engine.answer.steps_played <= 3


class TestEngineCall:
    def test_an_engine_that_is_down_is_told_as_such(self) -> None:
        engine = ScriptedEngine(ScriptedAnswer([]), fails_with=EngineDown("refused"))
        with pytest.raises(EngineDown):
            in_virtual_time(relay(engine))

    def test_the_engine_is_not_read_on_while_the_broker_is_behind(self) -> None:
        async def story() -> None:
            engine = ScriptedEngine(ScriptedAnswer([TOKEN, TOKEN, TOKEN, DONE]))
            reply = RecordingReply()
            reply.has_room.clear()
            settings = some_settings()
            task = asyncio.create_task(relay_answer(engine, a_job(), cast(Reply, reply), NODE, settings))
            await asyncio.sleep(1)
            assert engine.answer.steps_played == 0
            assert reply.data == TOKEN
            reply.has_room.set()
            await task
            assert reply.data == TOKEN * 3 + DONE

        in_virtual_time(story())

    def test_a_cancelled_job_closes_its_engine_connection(self) -> None:
        async def story() -> None:
            engine = ScriptedEngine(ScriptedAnswer([TOKEN, 1000.0]))
            task = asyncio.create_task(relay(engine))
            await asyncio.sleep(1)
            assert not engine.is_closed
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert engine.is_closed

        in_virtual_time(story())
