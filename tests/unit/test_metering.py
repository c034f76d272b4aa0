"""Streams whose engine tells its usage on request only: it is asked, and the client that didn't ask sees nothing."""

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.wire import Usage
from provider.engines.detect import FoundEngine, connect_engine
from provider.engines.metering import MeteredAnswer, with_usage
from provider.errors import EngineRefused
from provider.protocol.engine import Engine
from provider.settings import EngineKind
from tests.unit.engine_script import ScriptedAnswer
from tests.unit.engine_server import Said, looking_at, question, serving

CHAT = "/v1/chat/completions"
TOKEN = b'data: {"choices":[{"delta":{"content":"my \\"usage\\": \\"choices\\":[]"}}],"usage":null}\n\n'
LAST = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
EXTRA = b'data: {"choices": [],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = TOKEN * 3 + LAST + EXTRA + DONE
ASKERS = pytest.mark.parametrize("kind", [EngineKind.VLLM, EngineKind.LMSTUDIO, EngineKind.OPENAI])


class TestAsking:
    @pytest.mark.parametrize(
        ("body", "asked"),
        [
            (b'{"a":1}', b'{"stream_options":{"include_usage":true},"a":1}'),
            (b' {\n"n":9007199254740993e0}', b' {"stream_options":{"include_usage":true},\n"n":9007199254740993e0}'),
            (b"{ }", b'{"stream_options":{"include_usage":true} }'),
            (
                b'{"say":"\\"stream_options\\"?","n":12345678901234567890123}',
                b'{"stream_options":{"include_usage":true},"say":"\\"stream_options\\"?","n":12345678901234567890123}',
            ),
            (b'{"stream_options":null}', b'{"stream_options":{"include_usage":true}}'),
            (b'{"stream_options":{"x":1}}', b'{"stream_options":{"x":1,"include_usage":true}}'),
            (b'{"stream_options":{"include_usage":false}}', b'{"stream_options":{"include_usage":true}}'),
            (b'{"stream_options":{"include_usage":true}}', None),
            (b'{"stream_options":7}', None),
            (b'{"stream_options":0}', None),
            (b'["stream_options"]', None),
            (b'{"stream_options"', None),
            (b"[]", None),
            (b"", None),
        ],
    )
    def test_a_stream_is_asked_for_its_usage_and_nothing_else_changes(self, body: bytes, asked: bytes | None) -> None:
        changed = with_usage(question(CHAT, body, stream=True))
        assert (None if changed is None else changed.body) == asked

    @pytest.mark.parametrize("endpoint", ["/v1/responses", "/v1/messages", "/v1/embeddings", "/api/chat"])
    def test_other_apis_tell_it_by_themselves(self, endpoint: str) -> None:
        assert with_usage(question(endpoint, stream=True)) is None

    def test_a_whole_answer_tells_it_by_itself(self) -> None:
        assert with_usage(question(CHAT)) is None

    @given(st.binary(max_size=60), st.sampled_from([b"", b'{"stream_options":', b"{"]))
    def test_whatever_is_sent_is_survived(self, rest: bytes, head: bytes) -> None:
        asked = replace(question(CHAT, stream=True), body=head + rest)
        changed = with_usage(asked)
        assert changed is None or b"include_usage" in changed.body


class TestHiding:
    @given(st.lists(st.integers(0, len(STREAM)), max_size=12).map(sorted))
    def test_the_event_that_was_not_asked_for_is_hidden_however_it_is_chunked(self, cuts: list[int]) -> None:
        said, usage = heard([STREAM[start:end] for start, end in pairwise([0, *cuts, len(STREAM)])])
        assert said == TOKEN * 3 + LAST + DONE
        assert usage == Usage(7, 3)

    @pytest.mark.parametrize(
        "event",
        [
            b'data: {"choices":[],"usage":null}\n\n',
            b'data: {"choices":[],"prompt_filter_results":[{"usage":1}]}\n\n',
            b'data: {"choices":[{"delta":{"content":""}}],"usage":{"prompt_tokens":1}}\n\n',
            b'data: {"choices":[],"usage":{\n\n',
            b'data: {"choices":[{"x":{"choices":[]}}],"usage":{"prompt_tokens":1}}\n\n',
            b': "usage" "choices":[]\n\n',
        ],
    )
    def test_whatever_else_comes_stays(self, event: bytes) -> None:
        assert heard([TOKEN, event, DONE]) == (TOKEN + event + DONE, None)

    def test_it_is_hidden_at_the_very_end_too(self) -> None:
        assert heard([TOKEN, EXTRA.rstrip()]) == (TOKEN, Usage(7, 3))


class TestEngines:
    @ASKERS
    async def test_one_that_can_tell_is_asked(self, kind: EngineKind) -> None:
        async with serving({CHAT: Said(STREAM, content_type="text/event-stream")}) as server:
            engine = connected(kind, server.url)
            said = await all_of(engine)
            await engine.aclose()
        assert said == TOKEN * 3 + LAST + DONE
        assert orjson.loads(server.asked[0].body)["stream_options"] == {"include_usage": True}

    @ASKERS
    @pytest.mark.parametrize("status", [400, 422])
    async def test_one_that_refuses_to_be_asked_is_asked_without_and_not_again(
        self, kind: EngineKind, status: int
    ) -> None:
        def answer(body: bytes) -> Said:
            if b"stream_options" in body:
                return Said({"error": {"message": "Extra inputs are not permitted: stream_options"}}, status)
            return Said(TOKEN + DONE, content_type="text/event-stream")

        async with serving({CHAT: answer}) as server:
            engine = connected(kind, server.url)
            said = [await all_of(engine), await all_of(engine)]
            await engine.aclose()
        assert said == [TOKEN + DONE] * 2
        assert [b"stream_options" in one.body for one in server.asked] == [True, False, False]

    @ASKERS
    async def test_one_that_does_not_stream_is_heard_all_the_same(self, kind: EngineKind) -> None:
        whole = b'{"choices":[],"usage":{"prompt_tokens":7}}' + b" " * 2_000_000
        async with serving({CHAT: Said(whole)}) as server:
            engine = connected(kind, server.url, max_event_bytes=1_000_000)
            said = await all_of(engine)
            await engine.aclose()
        assert said == whole

    @ASKERS
    @pytest.mark.parametrize(
        ("status", "message"), [(400, "max_tokens is too large"), (404, "stream_options: no model")]
    )
    async def test_another_refusal_is_the_client_s(self, kind: EngineKind, status: int, message: str) -> None:
        async with serving({CHAT: Said({"error": {"message": message}}, status)}) as server:
            engine = connected(kind, server.url)
            for _ in range(2):
                with pytest.raises(EngineRefused, match=message):
                    await all_of(engine)
            await engine.aclose()
        assert [b"stream_options" in one.body for one in server.asked] == [True, True]


def connected(kind: EngineKind, url: str, **fields: Any) -> Engine:
    return connect_engine(FoundEngine(kind, url), looking_at(url, **fields))


async def all_of(engine: Engine) -> bytes:
    """The body of a streamed chat."""
    async with engine.ask(question(CHAT, stream=True)) as answer:
        return b"".join([chunk async for chunk in answer.chunks()])


def heard(chunks: list[bytes]) -> tuple[bytes, Usage | None]:
    """What a client hears of these chunks, and the usage that was hidden from it."""

    async def read() -> tuple[bytes, Usage | None]:
        answer = MeteredAnswer(ScriptedAnswer(chunks), 100_000)
        return b"".join([chunk async for chunk in answer.chunks()]), answer.usage

    return asyncio.run(read())
