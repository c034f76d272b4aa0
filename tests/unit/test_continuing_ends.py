"""Answers that were cut late, so that nothing is left to ask, and engines that go wrong while they go on."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from common.wire import Usage
from provider.continuing.obstacles import Obstacle, cannot_continue
from provider.protocol.engine import Question
from tests.doubles.reading import numbered
from tests.unit.continued import TOKENS, Telling, a_job, scripted, told, view_of
from tests.unit.engine_script import EVENTS, ScriptedAnswer, ScriptedEngine
from tests.unit.engine_words import (
    ALL_KINDS,
    CHAT,
    COMPLETIONS,
    CONTINUED,
    NATIVE_CHAT,
    WordsOf,
    engine_of,
)


class TestNothingLeftToAsk:
    def ended(self, endpoint: str, kind: str, cut: int, **fields: Any) -> tuple[Telling, list[Question]]:
        words = WordsOf(kind)
        telling = Telling(a_job(endpoint, **fields)).go_on(engine_of(WordsOf(kind, cut)))
        return telling.go_on(engine_of(words)), words.asked

    @pytest.mark.parametrize(("kind", "endpoint"), CONTINUED)
    def test_an_answer_that_used_up_its_limit_is_ended_without_the_engine(self, kind: str, endpoint: str) -> None:
        texts = [view_of(told({}, endpoint, (kind, cut)).data).text for cut in range(TOKENS + 3)]
        telling, asked = self.ended(endpoint, kind, texts.index(numbered(0, TOKENS)))
        joined = view_of(telling.data)
        assert (asked, telling.failed) == ([], None)
        assert (joined.text, joined.finishes, joined.ends) == (numbered(0, TOKENS), ("length",), 1)
        assert len(joined.ids) == 1
        assert [answer for _, answer in joined.usages] == [TOKENS]
        assert telling.usage is not None
        assert (telling.usage.completion_tokens, telling.usage.is_estimate) == (TOKENS, True)

    @pytest.mark.parametrize("kind", ALL_KINDS)
    def test_an_answer_that_has_said_why_it_ends_needs_only_its_end(self, kind: str) -> None:
        events = _events(kind, COMPLETIONS)
        finish = next(place for place, event in enumerate(events, 1) if b'"finish_reason":"length"' in event)
        for cut in range(finish, len(events)):
            telling, asked = self.ended(COMPLETIONS, kind, cut)
            joined = view_of(telling.data)
            assert asked == []
            assert (joined.finishes, joined.ends, len(joined.usages)) == (("length",), 1, 1)

    def test_a_client_that_did_not_ask_for_figures_gets_none(self) -> None:
        telling, _ = self.ended(CHAT, "llamacpp", TOKENS + 1, stream_options=None)
        assert view_of(telling.data).usages == ()

    def test_an_answer_that_was_all_said_only_lacks_the_end_of_its_reply(self) -> None:
        words = WordsOf("llamacpp")
        telling, asked = told({}, CHAT, ("llamacpp", None)), words.asked
        at, last = telling.entries[-1]
        telling.entries[-1] = at, last._replace(end=None)
        telling.go_on(engine_of(words))
        assert telling.entries[-1][1].start is not None
        assert (asked, telling.entries[-1][1].data) == ([], b"")
        assert telling.usage == Usage(3, TOKENS, is_estimate=True)

    def test_a_tool_call_that_was_all_said_needs_no_more_than_that(self) -> None:
        call = {"delta": {"tool_calls": [{"index": 0, "function": {"name": "f"}}]}, "finish_reason": "tool_calls"}
        event = b"data: " + orjson.dumps({"id": "c", "choices": [{"index": 0, **call}]}) + b"\n\n"
        telling = Telling(a_job(CHAT, stream_options=None)).go_on(ScriptedEngine(scripted([event], 1)))
        words = WordsOf("llamacpp")
        telling.go_on(engine_of(words))
        assert (telling.failed, words.asked) == (None, [])
        assert telling.data == event + b": continued by node-1, attempt 2\n\ndata: [DONE]\n\n"


class TestTrouble:
    """The engine that is to go on does wrong."""

    FAILED = b'data: {"error":{"code":500,"message":"slot died","type":"server_error"}}\n\n'

    def begun(self) -> Telling:
        return told({}, CHAT, ("llamacpp", 4))

    def rest(self, *words: str) -> list[bytes]:
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}, *({"content": word} for word in words)]
        choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        return [b"data: %b\n\n" % orjson.dumps({"id": "other", "choices": [choice]}) for choice in choices]

    @pytest.mark.parametrize("is_joined", [True, False])
    def test_what_stands_before_an_error_is_kept_and_the_next_goes_on_behind_it(self, is_joined: bool) -> None:
        steps = [*self.rest("t3 "), self.FAILED]
        telling = self.begun().go_on(ScriptedEngine(ScriptedAnswer([b"".join(steps)] if is_joined else steps, EVENTS)))
        assert telling.code == "engine_error"
        assert view_of(telling.data).text == numbered(0, 4)
        joined = view_of(telling.go_on(engine_of(WordsOf("vllm"))).data)
        assert (joined.text, joined.ends, len(joined.ids)) == (numbered(0, TOKENS), 1, 1)

    def test_an_error_instead_of_the_rest_leaves_the_client_with_what_it_has(self) -> None:
        telling = self.begun()
        before = telling.data
        telling.go_on(ScriptedEngine(ScriptedAnswer([*self.rest(), self.FAILED], EVENTS)))
        assert (telling.code, telling.data) == ("engine_error", before)

    def test_a_refusal_in_the_stream_is_no_mistake_of_the_client_s_either(self) -> None:
        refusal = b'data: {"error":{"code":400,"message":"the context is full","type":"invalid_request_error"}}\n\n'
        telling = self.begun().go_on(ScriptedEngine(ScriptedAnswer([*self.rest(), refusal], EVENTS)))
        assert telling.failed is not None
        assert telling.failed.failure == cannot_continue(Obstacle.REFUSED, "the context is full").failure

    def test_an_answer_that_is_no_stream_is_worth_another_try(self) -> None:
        telling = self.begun().go_on(ScriptedEngine(ScriptedAnswer([b"{}"], "application/json")))
        assert telling.failed is not None
        assert (telling.code, telling.failed.failure.retryable) == ("engine_bad_answer", True)

    def test_a_rest_that_brings_nothing_but_its_opening_ends_the_reply_all_the_same(self) -> None:
        telling = self.begun()
        before = telling.data
        telling.go_on(ScriptedEngine(ScriptedAnswer([*self.rest("")[1:], b"data: null\n\n"], EVENTS)))
        assert telling.data.startswith(before)
        assert telling.entries[-1][1].end is not None
        assert [entry.start is not None for _, entry in telling.entries].count(True) == 2

    def test_what_is_hidden_in_front_of_the_rest_is_counted_once(self) -> None:
        choices = [{"index": 0, "text": text, "finish_reason": None} for text in ("", "", "t4 ")]
        events = [b"data: %b\n\n" % orjson.dumps({"id": "other", "choices": [choice]}) for choice in choices]
        telling = told({}, COMPLETIONS, ("vllm", 4)).go_on(ScriptedEngine(ScriptedAnswer(events, EVENTS)))
        assert view_of(telling.data).text == numbered(0, 5)
        assert telling.usage == Usage(None, 5, is_estimate=True)

    def test_what_is_no_chunk_passes_as_it_is(self) -> None:
        odd = [b": ping\n\n", b"data: {half\n\n", b'data: {"object":"other"}\n\n', b'data: {"choices":[5]}\n\n']
        telling = self.begun().go_on(ScriptedEngine(ScriptedAnswer([*self.rest("t3 "), *odd], EVENTS)))
        assert telling.data.endswith(b"".join(odd))

    def test_lines_that_are_none_pass_as_they_are_and_those_that_say_nothing_do_not(self) -> None:
        lines = [b'{"message":{"role":"assistant","content":"t4 "},"done":false}\n', b"half\n", b"5\n"]
        silent = b'{"message":{"role":"assistant","content":""},"done":false}\n'
        telling = told({}, NATIVE_CHAT, ("ollama", 4))
        telling.go_on(ScriptedEngine(ScriptedAnswer([*lines, silent, b'{"done":true}\n'], "application/x-ndjson")))
        assert telling.data.count(b'"content":""') == 0
        assert b"half\n5\n" in telling.data
        assert telling.usage == Usage(None, 4 + 1, is_estimate=True)


def _events(kind: str, endpoint: str) -> Sequence[bytes]:
    """What the client has of an uncut answer, event by event."""
    telling = told({}, endpoint, (kind, None))
    end = b"\n\n" if b"data:" in telling.data else b"\n"
    return [event + end for event in telling.data.split(end) if event]
