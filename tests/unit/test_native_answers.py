"""What engines of OpenAI's API say reaches Ollama's clients in Ollama's words."""

import asyncio
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.types import ModelId
from common.wire import Failure, Usage
from provider.engines.native.speaker import NativeSpeaker
from provider.errors import EngineBroke, EngineError, EngineFailed, EngineFull, EngineRefused
from provider.protocol.engine import Question
from provider.protocol.framing import framing_of
from tests.unit.engine_script import EVENTS, JSON, ScriptedAnswer, ScriptedEngine, Step
from tests.unit.test_native_questions import JSON as ANY_JSON

DONE = b"data: [DONE]\n\n"
BODIES = {
    "/api/chat": {"messages": [{"role": "user", "content": "hi"}]},
    "/api/generate": {"prompt": "hi"},
    "/api/embed": {"input": "hi"},
}
USAGE = {"usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}}
TIMINGS = {"timings": {"cache_n": 4, "prompt_n": 2, "prompt_ms": 1.5, "predicted_n": 3, "predicted_ms": 20}}


def event(chunk: object) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    return event({"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more})


OPENING = chunk({"role": "assistant", "content": None})
END = chunk({}, "stop")
LAST_USAGE = event({"choices": [], **USAGE})


def blocks(
    steps: list[Step], path: str = "/api/chat", *, stream: bool = True, kind: str = "", **fields: Any
) -> list[bytes]:
    """What comes of an answer that the engine gives, piece by piece."""

    async def read() -> list[bytes]:
        scripted = ScriptedAnswer(steps, kind or (EVENTS if stream else JSON))
        engine = NativeSpeaker(ScriptedEngine(scripted), 10_000)
        body = orjson.dumps({"model": "m", **BODIES[path], **fields})
        async with engine.ask(Question("r", path, ModelId("m"), stream, body)) as answer:
            assert answer.status == 200
            framing = framing_of(answer.content_type, 10_000)
            assert (framing is not None) == (stream and path != "/api/embed")
            said = []
            async for block in answer.chunks():
                assert framing is None or framing.feed(block) == block
                said.append(block)
        return said

    return asyncio.run(read())


def lines(steps: list[Step], path: str = "/api/chat", **fields: Any) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in b"".join(blocks(steps, path, **fields)).splitlines()]


def whole(answer: dict[str, Any], path: str = "/api/chat", **fields: Any) -> dict[str, Any]:
    (said,) = lines([orjson.dumps(answer)], path, stream=False, **fields)
    return said


def timeless(line: dict[str, Any]) -> dict[str, Any]:
    """A line without what differs from run to run, which is looked at."""
    at = datetime.fromisoformat(line["created_at"])
    assert at.utcoffset() == timedelta(0)
    if line["done"]:
        assert line["total_duration"] >= 0
    return {name: value for name, value in line.items() if name not in ("created_at", "total_duration")}


def say(content: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "message": {"role": "assistant", "content": content, **more}, "done": False}


class TestStreams:
    def test_each_piece_is_a_line_and_the_last_one_has_the_figures(self) -> None:
        said = lines([OPENING, chunk({"content": "he"}), chunk({"content": "llo"}), END, LAST_USAGE, DONE])
        figures = {"done": True, "done_reason": "stop", "prompt_eval_count": 2, "eval_count": 3}
        assert [timeless(line) for line in said] == [say("he"), say("llo"), say("") | figures]

    def test_a_piece_is_told_when_it_comes_not_when_the_answer_is_over(self) -> None:
        steps: list[Step] = [OPENING, chunk({"content": "a"}), chunk({"content": "b"}), END + DONE]
        assert len(blocks(steps)) == 3

    def test_a_prompt_s_answer_stands_in_its_own_field(self) -> None:
        said = lines([chunk({"content": "a", "reasoning_content": "b"}), END, DONE], "/api/generate")
        assert timeless(said[0]) == {"model": "m", "response": "a", "thinking": "b", "done": False}
        assert (said[1]["response"], said[1]["done"]) == ("", True)

    def test_a_raw_prompt_s_answer_too(self) -> None:
        text = event({"choices": [{"index": 0, "text": "a", "finish_reason": None}]})
        end = event({"choices": [{"index": 0, "text": "", "finish_reason": "length"}]})
        first, last = lines([text, end, DONE], "/api/generate", raw=True)
        assert (first["response"], last["done_reason"]) == ("a", "length")

    @pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
    def test_thoughts_are_told_as_thoughts(self, name: str) -> None:
        said = lines([chunk({name: "hm"}), chunk({"content": "yes"}), END, DONE])
        assert [timeless(line) for line in said[:2]] == [say("", thinking="hm"), say("yes")]

    def test_what_llama_cpp_measured_is_passed_on(self) -> None:
        last = lines([chunk({"content": "a"}), chunk({}, "length", **TIMINGS), DONE])[-1]
        assert timeless(last) == say("") | {
            "done": True,
            "done_reason": "length",
            "prompt_eval_count": 6,
            "prompt_eval_duration": 1_500_000,
            "eval_count": 3,
            "eval_duration": 20_000_000,
        }

    def test_a_call_in_pieces_is_one_call_before_the_last_line(self) -> None:
        def piece(index: int, **call: Any) -> bytes:
            return chunk({"tool_calls": [{"index": index, **call}]})

        said = lines(
            [
                OPENING,
                piece(0, id="c0", type="function", function={"name": "time", "arguments": ""}),
                piece(0, function={"arguments": '{"of":'}),
                piece(0, function={"arguments": ' "day"}'}),
                piece(1, id="c1", function={"name": "rain", "arguments": "{}"}),
                chunk({}, "tool_calls"),
                DONE,
            ]
        )
        calls = [
            {"id": "c0", "function": {"index": 0, "name": "time", "arguments": {"of": "day"}}},
            {"id": "c1", "function": {"index": 1, "name": "rain", "arguments": {}}},
        ]
        assert [timeless(line) for line in said] == [
            say("", tool_calls=calls),
            say("") | {"done": True, "done_reason": "stop"},
        ]

    def test_while_a_long_call_grows_one_can_see_that_something_comes(self) -> None:
        growing = [chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]})] * 3
        said = lines([chunk({"content": "wait"}), *growing, chunk({}, "tool_calls"), DONE])
        assert [line["message"]["content"] for line in said] == ["wait", "", "", "", "", ""]

    @given(st.lists(st.text(min_size=1), max_size=5), st.lists(st.floats(0, 1), max_size=12).map(sorted))
    def test_however_it_is_cut_the_words_are_the_same(self, words: list[str], cuts: list[float]) -> None:
        stream = OPENING + b"".join(chunk({"content": word}) for word in words) + END + LAST_USAGE + DONE
        places = [0, *(int(cut * len(stream)) for cut in cuts), len(stream)]
        said = lines([stream[start:end] for start, end in pairwise(places)])
        assert [line["message"]["content"] for line in said] == [*words, ""]

    def test_its_tokens_are_counted_like_any_other_s(self) -> None:
        framing = framing_of("application/x-ndjson", 10_000)
        assert framing is not None
        tail = b"".join(blocks([chunk({"content": "a"}), END, LAST_USAGE, DONE]))
        assert framing.read_usage(tail, b"") == Usage(2, 3)
        assert not framing.is_broken_off(tail)

    @pytest.mark.parametrize("end", [[END], [END, LAST_USAGE], [END + b": bye\n\n"], [END.rstrip()]])
    def test_engines_that_do_not_say_done_are_done_all_the_same(self, end: list[Step]) -> None:
        assert lines([chunk({"content": "a"}), *end])[-1]["done"] is True

    def test_what_comes_after_the_end_is_not_told(self) -> None:
        assert [line["done"] for line in lines([END, DONE + chunk({"content": "more"}), DONE])] == [True]

    def test_an_engine_that_answers_a_stream_whole_is_heard(self) -> None:
        answer = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
        (said,) = lines([orjson.dumps(answer)], kind=JSON)
        assert (said["message"]["content"], said["done"]) == ("hi", True)


class TestWholeAnswers:
    def test_a_chat(self) -> None:
        message = {"role": "assistant", "content": "4", "reasoning_content": "2 and 2"}
        said = whole({"choices": [{"message": message, "finish_reason": "length"}], **USAGE})
        figures = {"done": True, "done_reason": "length", "prompt_eval_count": 2, "eval_count": 3}
        assert timeless(said) == say("4", thinking="2 and 2") | figures

    def test_a_call(self) -> None:
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        said = whole({"choices": [{"message": message, "finish_reason": "tool_calls"}]})
        assert said["message"]["tool_calls"] == [
            {"id": "c", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}
        ]
        assert said["done_reason"] == "stop"

    def test_an_answer_to_a_prompt(self) -> None:
        assert whole({"choices": [{"text": "4"}]}, "/api/generate", raw=True)["response"] == "4"

    def test_embeddings_come_in_the_order_of_their_texts(self) -> None:
        data = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]
        said = whole({"data": data, **USAGE}, "/api/embed")
        assert said.pop("total_duration") >= 0
        assert said == {"model": "m", "embeddings": [[1.0], [2.0]], "prompt_eval_count": 2}

    @pytest.mark.parametrize(
        ("path", "fields", "said"),
        [
            ("/api/chat", {"messages": []}, say("") | {"done": True, "done_reason": "load"}),
            (
                "/api/generate",
                {"prompt": "", "keep_alive": 0},
                {"model": "m", "response": "", "done": True, "done_reason": "unload"},
            ),
        ],
    )
    def test_a_wish_to_load_is_granted_without_the_engine(
        self, path: str, fields: dict[str, Any], said: dict[str, Any]
    ) -> None:
        told = lines([], path, stream=False, **fields)[0]
        assert told.pop("created_at")
        assert told == said

    def test_no_text_has_no_embedding(self) -> None:
        assert lines([], "/api/embed", stream=False, input=[]) == [{"model": "m", "embeddings": []}]


class TestTrouble:
    @pytest.mark.parametrize(
        ("steps", "code"),
        [
            ([OPENING, chunk({"content": "hi"})], "engine_disconnected"),
            ([], "engine_disconnected"),
            ([b"data: {\n\n"], "engine_bad_answer"),
            ([event([1])], "engine_bad_answer"),
            ([chunk({"content": 5})], "engine_bad_answer"),
            ([chunk({"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}), END, DONE], "engine_bad_answer"),
            ([chunk({"tool_calls": [{"index": 0}]}), END, DONE], "engine_bad_answer"),
        ],
        ids=["cut-off", "empty", "no-json", "a-list", "no-text", "half-a-call", "no-name"],
    )
    def test_a_stream_without_sense_or_end_is_a_failure(self, steps: list[Step], code: str) -> None:
        with pytest.raises(EngineBroke) as caught:
            blocks(steps)
        assert caught.value.failure.code == code

    @pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"text": 5}]}'])
    def test_a_whole_answer_without_sense_is_one_too(self, body: bytes) -> None:
        with pytest.raises(EngineBroke):
            blocks([body], stream=False)

    def test_an_error_before_the_first_word_is_a_refusal(self) -> None:
        with pytest.raises(EngineRefused) as caught:
            blocks([OPENING, event({"error": {"code": 400, "message": "too long"}})])
        assert (caught.value.failure.status, caught.value.failure.message) == (400, "too long")

    def test_an_error_in_mid_stream_comes_after_what_was_said(self) -> None:
        said: list[bytes] = []

        async def read() -> None:
            steps = [chunk({"content": "hi"}) + event({"error": {"code": 500, "message": "CUDA out of memory"}})]
            engine = NativeSpeaker(ScriptedEngine(ScriptedAnswer(steps)), 10_000)
            body = orjson.dumps({"model": "m", **BODIES["/api/chat"]})
            async with engine.ask(Question("r", "/api/chat", ModelId("m"), stream=True, body=body)) as answer:
                async for block in answer.chunks():
                    said.append(block)  # noqa: PERF401 - what came before the failure counts

        with pytest.raises(EngineFailed) as caught:
            asyncio.run(read())
        assert orjson.loads(b"".join(said))["message"]["content"] == "hi"
        assert "out of memory" in caught.value.failure.message

    def test_want_of_memory_before_the_first_word_is_no_failure_of_the_job(self) -> None:
        with pytest.raises(EngineFull):
            blocks([event({"error": {"code": 500, "message": "CUDA out of memory"}})])

    def test_an_error_under_status_200_is_an_error(self) -> None:
        with pytest.raises(EngineRefused, match="Unexpected endpoint"):
            blocks([b'{"error": "Unexpected endpoint or method."}'], stream=False)

    def test_a_connection_that_breaks_is_told_as_it_is(self) -> None:
        gone = EngineBroke(Failure(502, "engine_disconnected", "gone", retryable=True))
        with pytest.raises(EngineBroke) as caught:
            blocks([OPENING, gone])
        assert caught.value is gone

    @given(st.sampled_from(sorted(BODIES)), st.booleans(), st.lists(ANY_JSON, max_size=4))
    def test_whatever_an_engine_says_there_are_lines_or_a_failure(
        self, path: str, stream: bool, said: list[Any]
    ) -> None:
        try:
            steps: list[Step] = [event(one) if stream and path != "/api/embed" else orjson.dumps(one) for one in said]
        except TypeError:  # numbers beyond 64 bits, half characters
            return
        heard = blocks_or_error(steps, path, stream=stream)
        assert isinstance(heard, EngineError) or all(orjson.loads(line) for line in heard.splitlines())

    @given(st.dictionaries(st.sampled_from(["delta", "message", "text", "finish_reason", "logprobs"]), ANY_JSON))
    def test_nor_does_an_odd_choice_do_harm(self, choice: dict[str, Any]) -> None:
        try:
            steps: list[Step] = [event({"choices": [choice], "usage": choice.get("delta")}), DONE]
        except TypeError:
            return
        heard = blocks_or_error(steps, "/api/chat", stream=True)
        assert isinstance(heard, EngineError) or heard.endswith(b"\n")


def blocks_or_error(steps: list[Step], path: str, *, stream: bool) -> bytes | EngineError:
    try:
        return b"".join(blocks(steps, path, stream=stream))
    except EngineError as exc:
        return exc


class TestOthers:
    async def test_figures_that_were_told_past_the_words_are_in_the_last_line(self) -> None:
        said = ScriptedAnswer([chunk({"content": "hi"}), END, DONE], usage=Usage(2, 1))
        body = orjson.dumps({"model": "m", **BODIES["/api/chat"]})
        async with NativeSpeaker(ScriptedEngine(said), 10_000).ask(
            Question("r", "/api/chat", ModelId("m"), stream=True, body=body)
        ) as answer:
            told = [orjson.loads(block) async for block in answer.chunks()]
        assert [line["done"] for line in told] == [False, True]
        assert (told[-1]["prompt_eval_count"], told[-1]["eval_count"]) == (2, 1)

    async def test_openai_s_paths_are_not_touched(self) -> None:
        scripted = ScriptedAnswer([b"data: as it is\n\n"])
        engine = NativeSpeaker(ScriptedEngine(scripted), 10_000)
        question = Question("r", "/v1/chat/completions", ModelId("m"), stream=True, body=b"no json")
        async with engine.ask(question) as answer:
            assert answer is scripted
