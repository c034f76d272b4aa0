"""Answers cut at an engine and gone on with at it or another: the doubles of all kinds, and a real llama.cpp."""

from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
import pytest

from provider.engines.detect import open_engine
from provider.protocol.engine import Engine
from provider.settings import EngineKind, EngineSettings
from tests.doubles.process import EngineProcess
from tests.doubles.reading import numbered
from tests.support.llamacpp import real_llamacpp
from tests.unit.continued import Telling, a_job, view_of
from tests.unit.engine_words import CHAT, COMPLETIONS, GENERATE, NATIVE_CHAT, CutOff

TOKENS = 20
CUT = 7
"""Events that come of a first attempt; the first of them may bring no text."""
GO_ON_WITH_CHATS = (EngineKind.LLAMACPP, EngineKind.VLLM, EngineKind.OLLAMA)
KINDS = (*GO_ON_WITH_CHATS, EngineKind.OPENAI, EngineKind.LMSTUDIO)
ENDPOINTS = (CHAT, COMPLETIONS, NATIVE_CHAT, GENERATE)
SURE: dict[str, Any] = {"temperature": 0, "seed": 1, "cache_prompt": False}


@pytest.fixture(scope="module")
def doubles() -> Iterator[Mapping[EngineKind, EngineProcess]]:
    started = {kind: EngineProcess(kind=kind) for kind in KINDS}
    try:
        for double in started.values():
            double.start()
        yield started
    finally:
        for double in started.values():
            double.stop()


@pytest.fixture(scope="module")
def llamacpp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real llama.cpp."""
    with real_llamacpp(tmp_path_factory.mktemp("llamacpp"), 2) as url:
        yield url


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_whichever_engine_goes_on_the_client_has_every_token_once(
    endpoint: str, doubles: Mapping[EngineKind, EngineProcess]
) -> None:
    kinds = KINDS if endpoint == COMPLETIONS else GO_ON_WITH_CHATS
    engines = {kind: await _engine(doubles[kind].url) for kind in kinds}
    for first in kinds:
        for second in kinds:
            telling = Telling(a_job(endpoint, tokens=TOKENS))
            await telling.attempt(CutOff(engines[first], CUT))
            await telling.attempt(engines[second])
            joined = view_of(telling.data)
            assert telling.code == ""
            assert (joined.text, joined.finishes, joined.ends) == (numbered(0, TOKENS), ("length",), 1)
            assert (len(joined.ids), joined.usages) == (1, ((3, TOKENS),))
            begun = doubles[second].state()["requests"][-1]["begun_tokens"]
            assert begun == (CUT - 1 if endpoint == CHAT and first is not EngineKind.OLLAMA else CUT)
    for engine in engines.values():
        await engine.aclose()


async def test_a_third_engine_takes_up_what_two_have_said(doubles: Mapping[EngineKind, EngineProcess]) -> None:
    telling = Telling(a_job(CHAT, tokens=TOKENS))
    for kind in GO_ON_WITH_CHATS[:2]:
        engine = await _engine(doubles[kind].url)
        await telling.attempt(CutOff(engine, CUT))
        await engine.aclose()
    last = await _engine(doubles[EngineKind.OLLAMA].url)
    await telling.attempt(last)
    await last.aclose()
    joined = view_of(telling.data)
    assert (joined.text, joined.finishes, joined.ends) == (numbered(0, TOKENS), ("length",), 1)
    assert (len(joined.ids), joined.usages) == (1, ((3, TOKENS),))
    assert telling.data.count(b": continued by ") == 2


@pytest.mark.parametrize("kind", [EngineKind.OPENAI, EngineKind.LMSTUDIO])
async def test_an_engine_that_would_begin_anew_is_not_asked(
    kind: EngineKind, doubles: Mapping[EngineKind, EngineProcess]
) -> None:
    engine = await _engine(doubles[kind].url)
    telling = Telling(a_job(CHAT, tokens=TOKENS))
    await telling.attempt(CutOff(engine, CUT))
    doubles[kind].reset()
    await telling.attempt(engine)
    await engine.aclose()
    assert telling.code == "cannot_continue"
    assert doubles[kind].state()["requests"] == []


# The real one. With some prompts a small model is all but undecided between two words somewhere, and reading the
# beginning in one go, not word by word, may tip it there: these two are surer. What is certain for every prompt is
# that what comes is what the engine itself says to the same beginning.


@pytest.mark.parametrize(
    ("endpoint", "prompt"),
    [
        (CHAT, "What is the capital of France?"),
        (CHAT, "Write a python function that adds numbers."),
        (NATIVE_CHAT, "What is the capital of France?"),
        (GENERATE, "Write a python function that adds numbers."),
    ],
)
async def test_llama_cpp_ends_an_answer_as_if_it_had_never_been_cut(endpoint: str, prompt: str, llamacpp: str) -> None:
    engine = await _engine(llamacpp)
    job = _question(endpoint, prompt)
    whole = Telling(job)
    await whole.attempt(engine)
    uncut = view_of(whole.data)
    assert uncut.text
    for cut in (2, 21):
        telling = Telling(job)
        await telling.attempt(CutOff(engine, cut))
        assert telling.code == "engine_disconnected"
        await telling.attempt(engine)
        joined = view_of(telling.data)
        assert telling.code == ""
        assert (joined.text, joined.roles, joined.finishes, joined.ends) == (
            uncut.text,
            uncut.roles,
            uncut.finishes,
            uncut.ends,
        )
        assert [answer for _, answer in joined.usages] == [answer for _, answer in uncut.usages]
    await engine.aclose()


@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS])
async def test_what_llama_cpp_adds_is_what_it_says_to_the_same_beginning(endpoint: str, llamacpp: str) -> None:
    engine = await _engine(llamacpp)
    prompt = "Write a poem about the sea, in short lines."
    for cut in (2, 20):
        telling = Telling(_question(endpoint, prompt))
        await telling.attempt(CutOff(engine, cut))
        begun = view_of(telling.data).text
        sent = cut - 1 if endpoint == CHAT else cut
        await telling.attempt(engine)
        asked = (
            {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": begun}]}
            if endpoint == CHAT
            else {"prompt": prompt + begun}
        )
        body = {**SURE, **asked, "model": "m", "stream": True, "max_tokens": TOKENS * 2 - sent}
        answer = httpx2.post(llamacpp + endpoint, json=body, timeout=30, trust_env=False)
        assert view_of(telling.data).text == begun + view_of(answer.content).text
    await engine.aclose()


def _question(endpoint: str, prompt: str) -> Any:
    asked = {"prompt": prompt} if endpoint in (COMPLETIONS, GENERATE) else {"messages": [_user(prompt)]}
    options = {"options": {"temperature": 0, "seed": 1, "num_predict": TOKENS * 2}}
    return a_job(endpoint, tokens=TOKENS * 2, **asked, **(options if endpoint.startswith("/api/") else SURE))


def _user(prompt: str) -> dict[str, str]:
    return {"role": "user", "content": prompt}


async def _engine(url: str) -> Engine:
    return await open_engine(EngineSettings(url=url))
