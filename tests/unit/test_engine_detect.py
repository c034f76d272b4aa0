"""What listens under a URL, or at the usual ports, is told for certain or not at all."""

from contextlib import AsyncExitStack
from typing import Any

import pytest

from provider.engines.detect import FoundEngine, find_engine, open_engine
from provider.errors import EngineDown
from provider.settings import EngineKind, engine_root
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
    looking_at,
    serving,
)

LM_STUDIO_LATER = {path: said for path, said in LM_STUDIO_NEWER.items() if path != "/api/v0/models"}
UNEXPECTED = {"error": "Unexpected endpoint or method. Returning 200 anyway"}
ELSEWHERE = ("/api/registry", "/api/version", "/api/tags", "/props", "/version", "/api/v0/models", "/api/v1/models")


async def found_under(answers: dict[str, Any]) -> EngineKind:
    async with serving(answers) as server:
        found = await find_engine(looking_at(server.url))
        assert found.url == server.url
    return found.kind


class TestUnderAUrl:
    @pytest.mark.parametrize(
        ("answers", "kind"),
        [
            (OLLAMA, EngineKind.OLLAMA),
            (VLLM, EngineKind.VLLM),
            (LLAMACPP, EngineKind.LLAMACPP),
            (LLAMACPP | {"/props": {"role": "router"}}, EngineKind.LLAMACPP),
            (LM_STUDIO, EngineKind.LMSTUDIO),
            (LM_STUDIO_NEWER, EngineKind.LMSTUDIO),
            (LM_STUDIO_LATER, EngineKind.LMSTUDIO),
            (dict.fromkeys(ELSEWHERE, UNEXPECTED) | LM_STUDIO, EngineKind.LMSTUDIO),
            (OPENAI, EngineKind.OPENAI),
            (OPENAI | {"/version": {"version": "1.0"}}, EngineKind.OPENAI),
            (OPENAI | {"/api/version": {"version": "1.0"}}, EngineKind.OPENAI),
            (OPENAI | dict.fromkeys(ELSEWHERE, Said(b"<html>", content_type="text/html")), EngineKind.OPENAI),
            (OPENAI | dict.fromkeys(ELSEWHERE, Said(b"", 401)), EngineKind.OPENAI),
            (OPENAI | {"/v1/models": {"data": []}}, EngineKind.OPENAI),
        ],
        ids=[
            "ollama",
            "vllm",
            "llamacpp",
            "llamacpp-router",
            "lmstudio-0.3",
            "lmstudio-0.4",
            "lmstudio-without-v0",
            "lmstudio-that-says-200-to-all",
            "other",
            "other-with-a-version",
            "other-with-ollama-s-version",
            "other-with-a-page-for-all",
            "other-behind-a-door",
            "other-without-models",
        ],
    )
    async def test_each_is_known_by_what_only_it_says(self, answers: dict[str, Any], kind: EngineKind) -> None:
        assert await found_under(answers) is kind

    @pytest.mark.parametrize(
        "answers",
        [
            HUB,
            HUB | OLLAMA,
            {"/api/registry": {"nodes": []}, "/v1/models": {"data": []}},
            OLLAMA | {"/v1/models": HUB["/v1/models"]},
        ],
        ids=["with-models", "that-speaks-ollama-s-language", "without-models", "whose-registry-is-closed"],
    )
    async def test_a_hub_is_refused(self, answers: dict[str, Any]) -> None:
        """Its jobs would come round in a circle."""
        with pytest.raises(EngineDown, match="is a hub, not an engine"):
            await found_under(answers)

    @pytest.mark.parametrize(
        ("answers", "words"),
        [
            ({}, "answered 404"),
            ({"/v1/models": Said(b"", 401)}, "answered 401"),
            ({"/v1/models": {"models": []}}, "no list"),
            (LLAMACPP | {"/props": Said(b"", 503)}, "answered 503"),
            ({"/v1/models": Said(b"<html>", content_type="text/html")}, "/v1/models"),
        ],
        ids=["nothing-known", "wrong-key", "other-form", "llamacpp-that-loads", "a-page"],
    )
    async def test_what_cannot_be_asked_is_not_taken_and_it_says_why(self, answers: dict[str, Any], words: str) -> None:
        with pytest.raises(EngineDown, match=words):
            await found_under(answers)

    async def test_nothing_there_is_nothing_found(self) -> None:
        with pytest.raises(EngineDown):
            await find_engine(looking_at(f"http://127.0.0.1:{free_port()}"))

    async def test_a_url_as_clients_want_it_works_as_its_root(self) -> None:
        async with serving(OLLAMA) as server:
            found = await find_engine(looking_at(server.url + "/v1/"))
            assert found == FoundEngine(EngineKind.OLLAMA, server.url)
            engine = await open_engine(looking_at(server.url + "/v1"))
            assert (await engine.status()).url == server.url
            await engine.aclose()

    @pytest.mark.parametrize(
        ("url", "root"),
        [
            ("http://a:1", "http://a:1"),
            ("http://a:1/", "http://a:1"),
            ("http://a:1/v1", "http://a:1"),
            ("http://a:1/v1/", "http://a:1"),
            ("http://a:1/models/v1", "http://a:1/models"),
            ("http://a:1/v1beta", "http://a:1/v1beta"),
        ],
    )
    def test_a_root_has_no_version_at_its_end(self, url: str, root: str) -> None:
        assert engine_root(url) == root


class TestByKind:
    @pytest.mark.parametrize("kind", [kind for kind in EngineKind if kind is not EngineKind.AUTO])
    async def test_a_kind_that_is_set_is_not_looked_for(self, kind: EngineKind) -> None:
        """It may come later."""
        url = f"http://127.0.0.1:{free_port()}"
        assert await find_engine(looking_at(url, kind=kind)) == FoundEngine(kind, url)

    @pytest.mark.parametrize(
        ("kind", "port"),
        [
            (EngineKind.OLLAMA, 11434),
            (EngineKind.VLLM, 8000),
            (EngineKind.LLAMACPP, 8080),
            (EngineKind.LMSTUDIO, 1234),
            (EngineKind.OPENAI, 8000),
        ],
    )
    async def test_a_kind_without_a_url_is_at_its_usual_port(self, kind: EngineKind, port: int) -> None:
        assert await find_engine(looking_at(None, kind=kind)) == FoundEngine(kind, f"http://127.0.0.1:{port}")


class TestAtTheUsualPorts:
    async def found(self, *places: dict[str, Any] | None) -> int:
        """The place of what is taken, among servers that answer so (None: nobody listens)."""
        async with AsyncExitStack() as stack:
            urls = [
                f"http://127.0.0.1:{free_port()}"
                if answers is None
                else (await stack.enter_async_context(serving(answers))).url
                for answers in places
            ]
            found = await find_engine(looking_at(None, probe_timeout_s=0.5), urls)
        return urls.index(found.url)

    async def test_the_first_that_is_there_is_taken(self) -> None:
        assert await self.found(None, VLLM, LLAMACPP, LM_STUDIO) == 1
        assert await self.found(OLLAMA, VLLM) == 0

    async def test_a_hub_or_any_other_server_there_is_passed_by(self) -> None:
        assert await self.found(OPENAI, HUB, HUB | OLLAMA, LM_STUDIO) == 3

    async def test_one_that_gives_no_answer_keeps_nobody_from_the_others(self) -> None:
        assert await self.found({"/api/registry": Said(is_late=True)}, LLAMACPP) == 1

    async def test_nothing_known_there_is_told_with_the_places(self) -> None:
        with pytest.raises(EngineDown, match=r"no engine at http://127\.0\.0\.1"):
            await self.found(None, OPENAI, HUB)
