"""The adapters against real engines: llama.cpp with its small model, and Ollama where it is installed."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
import pytest

from common.endpoints import ENDPOINTS, Capability
from provider.engines.detect import open_engine
from provider.errors import EngineDown, EngineRefused
from provider.protocol.engine import Engine, refusal
from provider.settings import EngineKind, EngineSettings
from tests.doubles.cases import question, said, said_to_anyone
from tests.doubles.reading import events_in
from tests.support.call import is_ok
from tests.support.llamacpp import MODEL, real_llamacpp
from tests.support.ports import free_port
from tests.support.processes import Process, until

SLOTS = 2
LONG: dict[str, Any] = {"max_tokens": 2000, "ignore_eos": True}
SURE: dict[str, Any] = {"temperature": 0, "seed": 1, "cache_prompt": False}
TEXT = ("/v1/chat/completions", "/v1/completions")


@pytest.fixture(scope="module")
def llamacpp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a llama.cpp."""
    with real_llamacpp(tmp_path_factory.mktemp("llamacpp"), SLOTS) as url:
        yield url


@pytest.fixture(scope="module")
def ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an Ollama without models."""
    program = shutil.which("ollama")
    if program is None:
        pytest.skip("ollama is not installed")
    folder = tmp_path_factory.mktemp("ollama")
    url = f"http://127.0.0.1:{free_port()}"
    env = {"OLLAMA_HOST": url, "OLLAMA_MODELS": str(folder), "HOME": str(folder)}
    process = Process("ollama", [program, "serve"], folder / "engine.log", env)
    try:
        until(lambda: is_ok(url, "/api/version"), 30, process.tail)
        yield url
    finally:
        process.stop()


@pytest.fixture
async def engine(llamacpp: str) -> AsyncIterator[Engine]:
    """The adapter that is found for llama.cpp."""
    engine = await open_engine(EngineSettings(url=llamacpp))
    yield engine
    await engine.aclose()


async def test_llama_cpp_is_found_and_tells_of_itself(llamacpp: str, engine: Engine) -> None:
    status = await engine.status()
    assert (status.kind, status.url, status.loaded) == (EngineKind.LLAMACPP, llamacpp, (MODEL,))
    assert (status.slots, status.in_use) == (SLOTS, 0)
    assert status.version
    assert (status.models[0].size_bytes or 0) > 10**7
    assert {Capability.CHAT, Capability.COMPLETIONS, Capability.PREFILL} <= status.capabilities


async def test_llama_cpp_serves_what_is_claimed_of_it(engine: Engine) -> None:
    status = await engine.status()
    claimed = [path for path in ENDPOINTS if refusal(path, status) is None]
    assert set(TEXT) <= {*claimed}
    for endpoint in claimed:
        assert await said(engine, question(endpoint, model=MODEL))


async def test_llama_cpp_hears_every_question_that_follows_at_once_on_an_answer(engine: Engine) -> None:
    for _ in range(20):  # it closes the connections of streams a moment after their end
        assert await said(engine, question(TEXT[1], model=MODEL, stream=True, max_tokens=2))


@pytest.mark.parametrize("endpoint", TEXT)
async def test_llama_cpp_s_stream_is_its_own(endpoint: str, llamacpp: str, engine: Engine) -> None:
    asked = question(endpoint, model=MODEL, stream=True, **SURE)
    ours = await said(engine, asked)
    own = await said_to_anyone(llamacpp, asked)
    assert ours.endswith(b"data: [DONE]\n\n")
    assert [*map(_timeless, events_in(ours.decode()))] == [*map(_timeless, events_in(own.text))]


@pytest.mark.parametrize("endpoint", TEXT)
async def test_llama_cpp_s_whole_answer_is_its_own(endpoint: str, llamacpp: str, engine: Engine) -> None:
    asked = question(endpoint, model=MODEL, **SURE)
    ours = orjson.loads(await said(engine, asked))
    own = (await said_to_anyone(llamacpp, asked)).json()
    assert _timeless(ours) == _timeless(own)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_leaving_llama_cpp_in_mid_answer_frees_its_slot_within_a_second(stream: bool, engine: Engine) -> None:
    call = asyncio.create_task(said(engine, question(TEXT[0], model=MODEL, stream=stream, **LONG)))
    await _until_in_use(engine, 1, within_s=10)
    call.cancel()
    await _until_in_use(engine, 0, within_s=1)


async def test_llama_cpp_s_refusal_is_heard_in_its_words(llamacpp: str, engine: Engine) -> None:
    asked = question(TEXT[0], model=MODEL, max_tokens="many")
    own = await said_to_anyone(llamacpp, asked)
    with pytest.raises(EngineRefused) as caught:
        await said(engine, asked)
    assert caught.value.failure.message == own.json()["error"]["message"]
    assert (caught.value.failure.status, caught.value.failure.retryable) == (own.status_code, False)


async def test_an_ollama_without_models_is_found_and_refuses_any_model(ollama: str) -> None:
    engine = await open_engine(EngineSettings(url=ollama))
    status = await engine.status()
    with pytest.raises(EngineRefused) as caught:
        await said(engine, question("/api/chat", model="nobody:7b"))
    await engine.aclose()
    assert (status.kind, status.models) == (EngineKind.OLLAMA, ())
    assert status.version
    assert Capability.NATIVE in status.capabilities
    assert "nobody:7b" in caught.value.failure.message


async def test_where_nothing_listens_there_is_no_engine() -> None:
    with pytest.raises(EngineDown):
        await open_engine(EngineSettings(url=f"http://127.0.0.1:{free_port()}"))


def _timeless(said: dict[str, Any]) -> dict[str, Any]:
    """Without what differs each time; of times and ids only whether they are there."""
    return said | {name: type(said[name]) for name in ("id", "created", "timings") if name in said}


async def _until_in_use(engine: Engine, slots: int, within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while (await engine.status()).in_use != slots:  # noqa: ASYNC110 - nothing tells but looking
            await asyncio.sleep(0.02)
