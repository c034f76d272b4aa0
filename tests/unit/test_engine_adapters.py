"""What each adapter reads out of its engine, and how it asks."""

from typing import Any

import orjson
import pytest

from common.endpoints import Capability
from common.types import ModelId
from provider.engines.detect import FoundEngine, connect_engine
from provider.errors import EngineBroke, EngineDown, EngineFull, EngineLate, EngineRefused, ModelGone
from provider.protocol.engine import Engine, EngineStatus, ModelInfo
from provider.settings import EngineKind
from tests.support.ports import free_port
from tests.unit.engine_server import (
    HUB,
    LLAMACPP,
    LM_STUDIO,
    LM_STUDIO_NEWER,
    OLLAMA,
    OPENAI,
    VLLM,
    Said,
    Server,
    looking_at,
    question,
    serving,
)

CHAT, COMPLETIONS, EMBEDDINGS = Capability.CHAT, Capability.COMPLETIONS, Capability.EMBEDDINGS
RESPONSES, MESSAGES, NATIVE, PREFILL = Capability.RESPONSES, Capability.MESSAGES, Capability.NATIVE, Capability.PREFILL


def connected(kind: EngineKind, url: str, **fields: Any) -> Engine:
    return connect_engine(FoundEngine(kind, url), looking_at(url, **fields))


async def status_of(kind: EngineKind, server: Server) -> EngineStatus:
    engine = connected(kind, server.url)
    try:
        return await engine.status()
    finally:
        await engine.aclose()


async def said_by(kind: EngineKind, answers: dict[str, Any]) -> EngineStatus:
    async with serving(answers) as server:
        return await status_of(kind, server)


class TestOllama:
    async def test_it_tells_sizes_digests_and_what_is_in_gpu_memory(self) -> None:
        async with serving(OLLAMA) as server:
            status = await status_of(EngineKind.OLLAMA, server)
        assert (status.kind, status.url, status.version) == ("ollama", server.url, "0.13.3")
        assert status.models == (
            ModelInfo(ModelId("llama3"), True, 4_000_000, "365c0bd3c000", 5_500_000),
            ModelInfo(ModelId("qwen3:8b"), False, 5_000_000, "500a1f067a9f", None),
        )
        assert status.loaded == ("llama3",)
        assert status.slots is None

    async def test_a_model_with_and_without_its_default_tag_is_one(self) -> None:
        twins = {"models": [{"name": "llama3:latest", "size": 1}, {"name": "llama3", "size": 1}, {"name": ""}]}
        status = await said_by(EngineKind.OLLAMA, OLLAMA | {"/api/tags": twins})
        assert [model.id for model in status.models] == ["llama3"]

    @pytest.mark.parametrize(
        ("version", "more"),
        [
            ("0.9.6", set()),
            ("0.13.2", set()),
            ("0.13.3", {RESPONSES}),
            ("0.13.10", {RESPONSES}),
            ("0.14.0-rc2", {RESPONSES, MESSAGES}),
            ("1.0.0", {RESPONSES, MESSAGES}),
            ("0.0.0", set()),
            ("dev", set()),
        ],
    )
    async def test_what_it_can_do_follows_from_its_version(self, version: str, more: set[Capability]) -> None:
        status = await said_by(EngineKind.OLLAMA, OLLAMA | {"/api/version": {"version": version}})
        assert status.capabilities == {CHAT, COMPLETIONS, EMBEDDINGS, NATIVE, PREFILL} | more

    @pytest.mark.parametrize("answer", [{}, {"models": "none"}, [], "x"])
    async def test_a_list_that_is_none_counts_as_down(self, answer: object) -> None:
        with pytest.raises(EngineDown):
            await said_by(EngineKind.OLLAMA, OLLAMA | {"/api/tags": answer})

    @pytest.mark.parametrize("body", [b'{"model":"m"}', b'{"model":"m","stream":true}'])
    async def test_who_wants_a_whole_answer_of_its_own_paths_says_so(self, body: bytes) -> None:
        """They stream unless told not to."""
        asked = await asked_by(EngineKind.OLLAMA, "/api/chat", body)
        assert orjson.loads(asked) == {"model": "m", "stream": False}

    @pytest.mark.parametrize("body", [b'{"model": "m", "stream": false}', b"not json", b"[1]"])
    async def test_what_is_said_already_or_not_understood_goes_as_it_is(self, body: bytes) -> None:
        assert await asked_by(EngineKind.OLLAMA, "/api/generate", body) == body

    async def test_streams_and_other_paths_go_as_they_are(self) -> None:
        body = b'{"model": "m"}'
        assert await asked_by(EngineKind.OLLAMA, "/api/chat", body, stream=True) == body
        assert await asked_by(EngineKind.OLLAMA, "/v1/chat/completions", body) == body


async def asked_by(kind: EngineKind, endpoint: str, body: bytes, *, stream: bool = False) -> bytes:
    """The bytes that reach an engine."""
    async with serving({endpoint: {}}) as server:
        engine = connected(kind, server.url)
        async with engine.ask(question(endpoint, body, stream=stream)) as answer:
            _ = [chunk async for chunk in answer.chunks()]
        await engine.aclose()
    return server.asked[-1].body


class TestVllm:
    async def test_its_paths_tell_what_it_can_do(self) -> None:
        status = await said_by(EngineKind.VLLM, VLLM)
        assert (status.kind, status.version, status.loaded) == ("vllm", "0.11.2", ("org/model",))
        assert status.capabilities == {CHAT, COMPLETIONS, MESSAGES, PREFILL}

    async def test_a_model_that_only_embeds_continues_nothing(self) -> None:
        status = await said_by(EngineKind.VLLM, VLLM | {"/openapi.json": {"paths": {"/v1/embeddings": {}}}})
        assert status.capabilities == {EMBEDDINGS}

    @pytest.mark.parametrize("answer", [None, {"paths": []}, Said(b"<html>", content_type="text/html")])
    async def test_one_that_keeps_its_paths_to_itself_is_taken_to_do_little(self, answer: object) -> None:
        assert (await said_by(EngineKind.VLLM, VLLM | {"/openapi.json": answer})).capabilities == {
            CHAT,
            COMPLETIONS,
            PREFILL,
        }

    async def test_its_long_list_of_paths_is_read_once_and_again_when_it_comes_back(self) -> None:
        async with serving(VLLM) as server:
            engine = connected(EngineKind.VLLM, server.url)
            for _ in range(3):
                await engine.status()
            assert server.paths.count("/openapi.json") == 1
            server.answers["/health"] = Said(status=503)
            with pytest.raises(EngineDown, match="503"):
                await engine.status()
            server.answers |= {"/health": Said(b""), "/openapi.json": {"paths": {"/v1/embeddings": {}}}}
            assert (await engine.status()).capabilities == {EMBEDDINGS}
            await engine.aclose()


class TestLlamaCpp:
    async def test_it_tells_its_slots_and_what_is_taken(self) -> None:
        status = await said_by(EngineKind.LLAMACPP, LLAMACPP)
        assert (status.kind, status.version) == ("llamacpp", "b7777-abcdef")
        assert (status.slots, status.in_use) == (4, 2)
        assert status.models == (ModelInfo(ModelId("m"), True, 96_576_768),)

    @pytest.mark.parametrize(
        "untold",
        [
            {"/slots": Said({"error": {"code": 501, "message": "not supported"}}, 501)},
            {"/slots": None},
            {"/props": {"total_slots": 4, "endpoint_slots": False}},
        ],
        ids=["501", "404", "props-say-so"],
    )
    async def test_one_that_was_told_not_to_show_its_slots_is_none_the_worse(self, untold: dict[str, Any]) -> None:
        status = await said_by(EngineKind.LLAMACPP, LLAMACPP | untold)
        assert (status.slots, status.in_use) == (4, None)

    async def test_it_can_do_what_it_does_not_refuse_to_try(self) -> None:
        status = await said_by(EngineKind.LLAMACPP, LLAMACPP)
        assert status.capabilities == {CHAT, COMPLETIONS, PREFILL, RESPONSES}

    async def test_it_embeds_only_if_its_model_can(self) -> None:
        can = {"/v1/embeddings": Said({"error": {"code": 400, "message": '"input" must be provided'}}, 400)}
        assert EMBEDDINGS in (await said_by(EngineKind.LLAMACPP, LLAMACPP | can)).capabilities
        words = "Pooling type 'none' is not OAI compatible. Please use a different pooling type"
        cannot = {"/v1/embeddings": Said({"error": {"code": 400, "message": words}}, 400)}
        assert EMBEDDINGS not in (await said_by(EngineKind.LLAMACPP, LLAMACPP | cannot)).capabilities

    async def test_it_is_down_while_it_loads(self) -> None:
        with pytest.raises(EngineDown, match="503"):
            await said_by(EngineKind.LLAMACPP, LLAMACPP | {"/health": Said(b'{"error":{"code":503}}', 503)})

    async def test_a_sleeping_one_is_not_woken_and_holds_nothing(self) -> None:
        async with serving(LLAMACPP | {"/props": {"total_slots": 4, "is_sleeping": True}}) as server:
            status = await status_of(EngineKind.LLAMACPP, server)
        assert (status.loaded, [model.id for model in status.models]) == ((), ["m"])
        assert {one.method for one in server.asked} == {"GET"}
        assert "/slots" not in server.paths

    async def test_a_router_tells_which_of_its_models_are_loaded(self) -> None:
        listed = {"data": [{"id": "a", "status": {"value": "loaded"}}, {"id": "b", "status": {"value": "unloaded"}}]}
        status = await said_by(EngineKind.LLAMACPP, LLAMACPP | {"/v1/models": listed, "/props": {"role": "router"}})
        assert [(model.id, model.is_loaded) for model in status.models] == [("a", True), ("b", False)]
        assert status.slots is None


class TestLMStudio:
    async def test_it_tells_what_is_loaded(self) -> None:
        status = await said_by(EngineKind.LMSTUDIO, LM_STUDIO)
        assert status.kind == "lmstudio"
        assert [(model.id, model.is_loaded) for model in status.models] == [
            ("qwen2-vl-7b", False),
            ("llama-3.1-8b", True),
        ]
        assert status.capabilities == {CHAT, COMPLETIONS, EMBEDDINGS}

    async def test_a_newer_one_tells_sizes_and_does_more(self) -> None:
        status = await said_by(EngineKind.LMSTUDIO, LM_STUDIO_NEWER)
        assert [(model.id, model.is_loaded, model.size_bytes) for model in status.models] == [
            ("qwen2-vl-7b", False, 4_000),
            ("llama-3.1-8b", True, 5_000),
        ]
        assert status.capabilities == {CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES}

    async def test_an_older_one_s_log_is_not_filled_with_what_it_lacks(self) -> None:
        """It answers such a path with 200, and writes a line about it."""
        unexpected = {"/api/v1/models": {"error": "Unexpected endpoint or method. (GET /api/v1/models)"}}
        async with serving(LM_STUDIO | unexpected) as server:
            engine = connected(EngineKind.LMSTUDIO, server.url)
            for _ in range(3):
                assert (await engine.status()).loaded == ("llama-3.1-8b",)
            await engine.aclose()
        assert server.paths.count("/api/v1/models") == 1


class TestOthers:
    async def test_all_models_count_as_loaded_and_little_as_possible(self) -> None:
        status = await said_by(EngineKind.OPENAI, OPENAI)
        assert (status.kind, status.version, status.loaded) == ("openai", "", ("m",))
        assert status.capabilities == {CHAT, COMPLETIONS}

    async def test_a_hub_is_no_engine_whatever_the_settings_say(self) -> None:
        with pytest.raises(EngineDown, match="is a hub, not an engine"):
            await said_by(EngineKind.OPENAI, HUB)


ALL = pytest.mark.parametrize(
    ("kind", "answers"),
    [
        (EngineKind.OLLAMA, OLLAMA),
        (EngineKind.VLLM, VLLM),
        (EngineKind.LLAMACPP, LLAMACPP),
        (EngineKind.LMSTUDIO, LM_STUDIO),
        (EngineKind.OPENAI, OPENAI),
    ],
    ids=["ollama", "vllm", "llamacpp", "lmstudio", "openai"],
)


@ALL
class TestAll:
    async def test_a_key_goes_with_every_look_and_every_question(
        self, kind: EngineKind, answers: dict[str, Any]
    ) -> None:
        async with serving(answers | {"/v1/chat/completions": {}}) as server:
            engine = connected(kind, server.url, api_key="s3cret")
            await engine.status()
            async with engine.ask(question()):
                pass
            await engine.aclose()
        assert {one.headers.get("Authorization") for one in server.asked} == {"Bearer s3cret"}
        assert server.asked[-1].headers["X-Request-Id"] == "r"

    async def test_a_connection_whose_answer_was_read_serves_the_next_question(
        self, kind: EngineKind, answers: dict[str, Any]
    ) -> None:
        async with serving(answers | {"/v1/chat/completions": {}}) as server:
            engine = connected(kind, server.url)
            for _ in range(3):
                async with engine.ask(question()) as answer:
                    assert b"".join([chunk async for chunk in answer.chunks()]) == b"{}"
            await engine.aclose()
        assert len({one.connection for one in server.asked}) == 1

    async def test_one_that_is_not_there_is_down(self, kind: EngineKind, answers: dict[str, Any]) -> None:
        del answers
        engine = connected(kind, f"http://127.0.0.1:{free_port()}")
        with pytest.raises(EngineDown) as caught:
            await engine.status()
        assert not isinstance(caught.value, EngineLate)
        with pytest.raises(EngineDown):
            async with engine.ask(question()):
                pass
        await engine.aclose()

    async def test_one_that_gives_no_answer_is_late(self, kind: EngineKind, answers: dict[str, Any]) -> None:
        async with serving(dict.fromkeys(answers, Said(is_late=True))) as server:
            engine = connected(kind, server.url, probe_timeout_s=0.1)
            with pytest.raises(EngineLate):
                await engine.status()
            await engine.aclose()

    @pytest.mark.parametrize(
        "said", [Said(b"", 500), Said(b"<html>", content_type="text/html"), Said(b"{}"), Said(b"[]")]
    )
    async def test_one_that_talks_nonsense_is_down(self, kind: EngineKind, answers: dict[str, Any], said: Said) -> None:
        with pytest.raises(EngineDown):
            await said_by(kind, dict.fromkeys(answers, said))

    @pytest.mark.parametrize(
        ("status", "body", "raised"),
        [
            (400, {"error": "invalid format"}, EngineRefused),
            (404, {"error": "model 'm' not found"}, ModelGone),
            (404, {"error": {"message": "The model `m` does not exist.", "type": "NotFoundError"}}, ModelGone),
            (500, {"error": "model requires more system memory (9.9 GiB) than is available (7.6 GiB)"}, EngineFull),
            (503, {"error": {"code": 503, "message": "Loading model"}}, EngineRefused),
        ],
        ids=["refused", "gone", "gone-vllm", "full", "loading"],
    )
    async def test_an_error_status_is_told_by_what_it_means(
        self, kind: EngineKind, answers: dict[str, Any], status: int, body: dict[str, Any], raised: type[Exception]
    ) -> None:
        async with serving(answers | {"/v1/chat/completions": Said(body, status)}) as server:
            engine = connected(kind, server.url)
            with pytest.raises(raised) as caught:
                async with engine.ask(question()):
                    pass
            await engine.aclose()
        assert type(caught.value) is raised

    async def test_a_connection_closed_unanswered_may_be_tried_elsewhere(
        self, kind: EngineKind, answers: dict[str, Any]
    ) -> None:
        async with serving(answers | {"/v1/chat/completions": Said(is_cut=True)}) as server:
            engine = connected(kind, server.url)
            with pytest.raises(EngineBroke) as caught:
                async with engine.ask(question()):
                    pass
            await engine.aclose()
        assert caught.value.failure.retryable
