"""An answer cut anywhere and gone on with is the answer that it would have been, as its client reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.types import NodeId
from common.wire import EntryId, ReplyEntry, Usage
from provider.continuing.finding import find_seam
from tests.doubles.reading import numbered
from tests.unit.continued import (
    TOKENS,
    Telling,
    View,
    a_job,
    scripted,
    told,
    view_of,
)
from tests.unit.engine_script import NODE, ScriptedEngine
from tests.unit.engine_words import (
    ALL_KINDS,
    CHAT,
    COMPLETIONS,
    CONTINUED,
    ENDPOINTS,
    GENERATE,
    GO_ON_WITH_CHATS,
    NATIVE_CHAT,
    WordsOf,
    engine_of,
)

RAW: Mapping[str, Any] = {"raw": True}


def whole(kind: str, endpoint: str, **fields: Any) -> View:
    """What the client has of an answer that was never cut."""
    telling = told(fields, endpoint, (kind, None))
    assert telling.failed is None
    return view_of(telling.data)


def told_alike(joined: View, uncut: View, *, is_prompt_counted: bool = True) -> None:
    """Nothing is lost, doubled, or of another answer. A prompt is not counted where no engine told its tokens."""
    if not is_prompt_counted:
        assert {prompt for prompt, _ in joined.usages} <= {0, *(prompt for prompt, _ in uncut.usages)}
        joined = replace(joined, usages=tuple((3, answer) for _, answer in joined.usages))
    assert len(joined.ids) == 1
    assert {len(one) for one in joined.ids} == {len(one) for one in uncut.ids}
    assert joined.roles == uncut.roles or 1 <= joined.roles < uncut.roles  # Ollama says it with each token
    assert replace(joined, ids=uncut.ids, roles=uncut.roles) == uncut


class TestTwoAttempts:
    @pytest.mark.parametrize(("kind", "endpoint"), CONTINUED)
    def test_wherever_the_first_breaks_off_the_second_says_the_rest(self, kind: str, endpoint: str) -> None:
        uncut = whole(kind, endpoint)
        assert (uncut.text, uncut.ends) == (numbered(0, TOKENS), 1)
        for cut in range(TOKENS + 4):
            telling = told({}, endpoint, (kind, cut))
            is_all_said = view_of(telling.data).text == uncut.text
            telling.go_on(engine_of(WordsOf(kind)))
            assert telling.failed is None
            told_alike(view_of(telling.data), uncut, is_prompt_counted=not is_all_said)

    @pytest.mark.parametrize("kind", GO_ON_WITH_CHATS)
    def test_a_raw_prompt_is_gone_on_with_as_it_is(self, kind: str) -> None:
        uncut = whole(kind, GENERATE, **RAW)
        for cut in range(TOKENS):
            told_alike(view_of(told(RAW, GENERATE, (kind, cut), (kind, None)).data), uncut)

    @pytest.mark.parametrize("kind", ALL_KINDS)
    def test_a_prompt_in_a_list_is_gone_on_with_too(self, kind: str) -> None:
        fields = {"prompt": ["count for me"]}
        assert view_of(told(fields, COMPLETIONS, (kind, 3), (kind, None)).data).text == numbered(0, TOKENS)

    @pytest.mark.parametrize("kind", GO_ON_WITH_CHATS)
    @pytest.mark.parametrize("endpoint", [CHAT, NATIVE_CHAT])
    def test_what_the_client_let_the_assistant_say_is_no_reason_to_begin_anew(self, kind: str, endpoint: str) -> None:
        talk = [{"role": "user", "content": "count for me"}, {"role": "assistant", "content": "Well: "}]
        for fields in ({}, {"continue_final_message": True, "add_generation_prompt": False}):
            uncut = whole(kind, endpoint, messages=talk, **fields)
            joined = view_of(told({"messages": talk, **fields}, endpoint, (kind, 4), (kind, None)).data)
            assert joined.text == uncut.text == numbered(0, TOKENS)

    def test_a_comment_marks_the_place_once_in_front_of_the_rest(self) -> None:
        telling = Telling(a_job(CHAT)).go_on(engine_of(WordsOf("llamacpp", 3)))
        before = telling.data
        telling.go_on(engine_of(WordsOf("llamacpp")), NodeId("node-2"))
        assert telling.data.removeprefix(before).startswith(b": continued by node-2, attempt 2\n\ndata: {")
        assert telling.data.count(b": continued") == 1

    def test_lines_of_json_have_no_comments(self) -> None:
        assert b"continued" not in told({}, NATIVE_CHAT, ("ollama", 3), ("ollama", None)).data

    def test_the_rest_says_behind_which_entry_it_stands(self) -> None:
        telling = told({}, CHAT, ("llamacpp", 3), ("llamacpp", None))
        last = [str(entry_id) for entry_id, entry in telling.entries if entry_id.attempt == 1 and entry.data][-1]
        starts = [entry.start for _, entry in telling.entries if entry.start is not None]
        assert [start.after for start in starts] == ["", last]

    def test_the_end_tells_the_sum_and_calls_it_an_estimate(self) -> None:
        assert told({}, CHAT, ("vllm", None)).usage == Usage(3, TOKENS)
        assert told({}, CHAT, ("vllm", 4), ("vllm", None)).usage == Usage(3, TOKENS, is_estimate=True)
        assert told({"stream_options": None}, CHAT, ("vllm", 4), ("vllm", None)).usage == Usage(3, TOKENS, True)

    def test_where_nothing_was_said_the_second_begins_afresh(self) -> None:
        telling = told({}, CHAT, ("openai", 1), ("openai", None))
        assert b": continued" not in telling.data
        assert telling.usage == Usage(3, TOKENS)

    def test_only_what_is_left_of_the_limit_is_asked_for(self) -> None:
        for limit in ("max_tokens", "max_completion_tokens", "n_predict"):
            words = WordsOf("llamacpp")
            job = a_job(COMPLETIONS, **{"max_tokens": None, limit: 9, "min_tokens": 2, "stop": ["\n"]})
            Telling(job).go_on(engine_of(WordsOf("llamacpp", 4))).go_on(engine_of(words))
            body = orjson.loads(words.asked[0].body)
            assert (body[limit], body["min_tokens"], body["stop"]) == (5, 0, ["\n"])

    def test_an_engine_that_counts_as_it_goes_is_believed_to_have_said_several_in_an_event(self) -> None:
        usage = {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
        choice = {"index": 0, "delta": {"content": "t0 t1 t2 "}, "finish_reason": None}
        event = b"data: %b\n\n" % orjson.dumps({"id": "1", "choices": [choice], "usage": usage})
        words = WordsOf("vllm")
        telling = Telling(a_job(CHAT)).go_on(ScriptedEngine(scripted([event], 1)))
        telling.go_on(engine_of(words))
        assert orjson.loads(words.asked[0].body)["max_tokens"] == TOKENS - 3
        assert view_of(telling.data).text == numbered(0, TOKENS)
        assert telling.usage == Usage(3, TOKENS, is_estimate=True)

    def test_as_many_as_the_model_likes_stay_as_many(self) -> None:
        words = WordsOf("ollama")
        job = a_job(NATIVE_CHAT, options={"num_predict": -1, "top_k": 3})
        Telling(job).go_on(engine_of(WordsOf("ollama", 4))).go_on(engine_of(words))
        assert orjson.loads(words.asked[0].body)["options"] == {"num_predict": -1, "top_k": 3}

    def test_an_engine_that_refuses_to_go_on_is_not_the_client_s_mistake(self) -> None:
        telling = told({}, CHAT, ("llamacpp", 3))
        telling.job = replace(telling.job, body=telling.job.body.replace(b'"max_tokens":6', b'"max_tokens":6.5'))
        telling.go_on(engine_of(WordsOf("llamacpp")))
        assert telling.failed is not None
        failure = telling.failed.failure
        assert (failure.status, failure.code, failure.retryable) == (502, "cannot_continue", False)
        assert "token limit must be a whole number" in failure.message


class TestManyAttempts:
    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    @given(
        cuts=st.lists(st.tuples(st.sampled_from(GO_ON_WITH_CHATS), st.integers(0, TOKENS + 3)), max_size=4),
        last=st.sampled_from(GO_ON_WITH_CHATS),
    )
    @settings(max_examples=60, deadline=None)
    def test_whoever_goes_on_after_whomever_the_client_has_one_answer(
        self, endpoint: str, cuts: Sequence[tuple[str, int]], last: str
    ) -> None:
        telling = told({}, endpoint, *cuts, (last, None))
        joined = view_of(telling.data)
        assert telling.failed is None
        assert (joined.text, joined.finishes, joined.ends) == (numbered(0, TOKENS), ("length",), 1)
        assert len(joined.ids) == 1
        assert [answer for _, answer in joined.usages] == [TOKENS]
        assert telling.usage is not None
        assert telling.usage.completion_tokens == TOKENS

    def test_each_place_is_marked(self) -> None:
        telling = told({}, CHAT, ("llamacpp", 3), ("vllm", 3), ("ollama", None))
        assert view_of(telling.data).text == numbered(0, TOKENS)
        assert b": continued by node-1, attempt 2\n\n" in telling.data
        assert b": continued by node-1, attempt 3\n\n" in telling.data


class TestRealShapes:
    """A stream as llama.cpp of autumn 2026 writes it: null for no content, no logprobs, the clock in each event."""

    WORDS = ("The", " sea", " is", "\n\n", "vast", ",", " and", " ", "🌊", " wild", ".")

    def events(self, words: Sequence[str], name: str, prompt: int) -> list[bytes]:
        def event(place: int, **fields: Any) -> bytes:
            head = {"created": 1000 + place, "id": f"chatcmpl-{name}", "model": "m", "system_fingerprint": name}
            return b"data: " + orjson.dumps({**fields, **head, "object": "chat.completion.chunk"}) + b"\n\n"

        def choice(delta: dict[str, Any], finish: str | None = None) -> list[dict[str, Any]]:
            return [{"finish_reason": finish, "index": 0, "delta": delta}]

        usage = {"completion_tokens": len(words), "prompt_tokens": prompt, "total_tokens": prompt + len(words)}
        timings = {"cache_n": 0, "prompt_n": prompt, "predicted_n": len(words), "predicted_ms": 9.5}
        return [
            event(0, choices=choice({"role": "assistant", "content": None})),
            *(event(place, choices=choice({"content": word})) for place, word in enumerate(words)),
            event(99, choices=choice({}, "stop")),
            event(99, choices=[], usage=usage, timings=timings),
            b"data: [DONE]\n\n",
        ]

    def test_wherever_it_is_cut_the_client_has_one_whole_answer(self) -> None:
        stream = self.events(self.WORDS, "first", 30)
        for cut in range(2, len(stream)):
            spoken = "".join(self.WORDS[: cut - 1])
            sent = min(cut - 1, len(self.WORDS))
            telling = Telling(a_job(CHAT, tokens=100))
            telling.go_on(ScriptedEngine(scripted(stream, cut)))
            engine = ScriptedEngine(scripted(self.events(self.WORDS[sent:], "second", 30 + sent), None))
            telling.go_on(engine)
            joined = view_of(telling.data)
            assert telling.failed is None
            assert joined.text == "".join(self.WORDS)
            assert (joined.roles, joined.finishes, joined.ends) == (1, ("stop",), 1)
            assert [answer for _, answer in joined.usages] == [len(self.WORDS)]
            later = {chunk_id for chunk_id in joined.ids if chunk_id[3] == 1000}
            assert {(one[0], one[2], one[4]) for one in joined.ids} == {("chatcmpl-first", "m", "first")}
            assert later, "what was added has the time of the first"
            if sent < len(self.WORDS):
                assert engine.asked[0].said is not None
                assert (engine.asked[0].said.text, engine.asked[0].said.tokens) == (spoken, sent)
                assert joined.usages == ((30, len(self.WORDS)),)


def test_an_answer_that_is_not_streamed_begins_anew() -> None:
    begun = [(EntryId(1, 1), ReplyEntry(data=b'{"choices":'))]
    assert find_seam(replace(a_job(CHAT), stream=False), NODE, begun) is None
