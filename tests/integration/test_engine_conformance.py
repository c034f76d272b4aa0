"""One suite of behaviour for all adapters, each against the double of its engine."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest

from common.endpoints import ENDPOINTS, Capability
from provider.engines.detect import open_engine
from provider.errors import EngineBroke, EngineDown, EngineFailed, EngineFull, EngineRefused, ModelGone
from provider.protocol.engine import Engine, Question, refusal
from provider.settings import EngineKind, EngineSettings
from tests.doubles.cases import CASES, SMALL, TINY, EngineCase, question, said, said_to_anyone
from tests.doubles.process import EngineProcess
from tests.doubles.reading import events_in, holds, numbered, without_nulls

RESPONSES = "/v1/responses"
SAME: dict[str, Any] = {"double": {"same_each_time": True}}
SLOW: dict[str, Any] = {"double": {"delay_ms": 20}, "max_tokens": 1000, "options": {"num_predict": 1000}}


def those(are_meant: Callable[[EngineCase], bool]) -> pytest.MarkDecorator:
    """Only the engines of which this is true."""
    return pytest.mark.parametrize(
        "started", [name for name, case in CASES.items() if are_meant(case)], indirect=True, scope="module"
    )


@pytest.fixture(scope="module", params=CASES)
def started(request: pytest.FixtureRequest) -> Iterator[tuple[EngineCase, EngineProcess]]:
    case = CASES[request.param]
    with case.start() as double:
        yield case, double


@pytest.fixture
def case(started: tuple[EngineCase, EngineProcess]) -> EngineCase:
    return started[0]


@pytest.fixture
def double(started: tuple[EngineCase, EngineProcess]) -> EngineProcess:
    """The double, well-behaved and with empty books; models may be loaded."""
    started[1].configure()
    started[1].reset()
    return started[1]


@pytest.fixture
async def engine(double: EngineProcess) -> AsyncIterator[Engine]:
    """The adapter that is found when nothing but the URL is set."""
    engine = await open_engine(EngineSettings(url=double.url))
    yield engine
    await engine.aclose()


# What it is


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_an_engine_that_is_looked_at_is_found_for_what_it_is(
    suffix: str, case: EngineCase, double: EngineProcess
) -> None:
    engine = await open_engine(EngineSettings(url=double.url + suffix))
    status = await engine.status()
    await engine.aclose()
    assert (status.kind, status.url) == (case.kind, double.url)


async def test_a_kind_that_is_set_is_believed(case: EngineCase, double: EngineProcess) -> None:
    engine = await open_engine(EngineSettings(url=double.url, kind=case.kind))
    status = await engine.status()
    body = await said(engine, question(case.endpoints[0]))
    await engine.aclose()
    assert (status.kind, status.capabilities) == (case.kind, case.can)
    assert body


async def test_the_status_tells_what_the_engine_tells(case: EngineCase, engine: Engine) -> None:
    status = await engine.status()
    assert status.version == (case.version if case.tells_version else "")
    assert [model.id for model in status.models] == [TINY.name, SMALL.name]
    assert TINY.name in status.loaded
    for model, real in zip(status.models, (TINY, SMALL), strict=True):
        assert model.size_bytes == (real.size_bytes if case.tells_sizes else None)
        assert model.digest == (real.digest if case.tells_digests else "")
    assert (status.slots, status.in_use) == ((4, 0) if case.kind is EngineKind.LLAMACPP else (None, None))


async def test_a_model_that_is_asked_for_is_loaded_then(case: EngineCase) -> None:
    with case.start() as double:
        engine = await open_engine(EngineSettings(url=double.url))
        before = (await engine.status()).loaded
        await said(engine, question(case.endpoints[0], model=SMALL.name))
        after = (await engine.status()).loaded
        await engine.aclose()
    assert before == ((TINY.name,) if case.tells_loaded else (TINY.name, SMALL.name))
    assert after == (TINY.name, SMALL.name)


# What it can do


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_claim_is_kept_and_what_is_not_claimed_is_not_served(
    endpoint: str, case: EngineCase, double: EngineProcess, engine: Engine
) -> None:
    status = await engine.status()
    assert status.capabilities == case.can
    if refusal(endpoint, status) is None:
        assert not orjson.loads(await said(engine, question(endpoint))).get("error")
    else:
        direct = await said_to_anyone(double.url, question(endpoint))
        assert direct.status_code >= 400 or "error" in direct.json()


@pytest.mark.parametrize(
    "path", ["/api/delete", "/api/pull", "/api/create", "/api/push", "/api/copy", "/control/reset"]
)
async def test_what_changes_an_engine_is_refused_for_good(path: str, engine: Engine) -> None:
    refused = refusal(path, await engine.status())
    assert refused is not None
    assert (refused.status, refused.retryable) == (404, False)


@those(lambda case: {Capability.PREFILL, Capability.CHAT} <= case.can)
async def test_a_claim_to_continue_an_answer_is_kept(case: EngineCase, engine: Engine) -> None:
    begun = [{"role": "user", "content": "count"}, {"role": "assistant", "content": "t0 t1 "}]
    body = await said(engine, question("/v1/chat/completions", messages=begun, max_tokens=2, **case.to_continue))
    assert orjson.loads(body)["choices"][0]["message"]["content"] == (" t2 t3 " if case.trims else "t2 t3 ")


# What it says


@those(lambda case: bool(case.streaming))
@pytest.mark.parametrize("shape", [{}, {"per_write": 3}, {"split_bytes": 7}], ids=["plain", "joined", "split"])
async def test_a_stream_is_byte_for_byte_the_engine_s_own(
    shape: dict[str, Any], case: EngineCase, double: EngineProcess, engine: Engine
) -> None:
    for endpoint in case.streaming:
        asked = question(endpoint, stream=True, double={**SAME["double"], **shape})
        direct = await said_to_anyone(double.url, asked)
        async with engine.ask(asked) as answer:
            body = b"".join([chunk async for chunk in answer.chunks()])
        if (case.kind, endpoint) == (EngineKind.LLAMACPP, RESPONSES):  # what it leaves out is added
            assert holds(events_in(body.decode()), events_in(direct.text))
        else:
            assert body == direct.content
        assert answer.content_type == direct.headers["content-type"]
        assert body.count(b"\n") >= 5


async def test_a_whole_answer_is_byte_for_byte_the_engine_s_own(
    case: EngineCase, double: EngineProcess, engine: Engine
) -> None:
    for endpoint in case.endpoints:
        asked = question(endpoint, **SAME)
        direct = await said_to_anyone(double.url, asked)
        body = await said(engine, asked)
        if (case.kind, endpoint) == (EngineKind.LLAMACPP, RESPONSES):
            assert holds(orjson.loads(body), direct.json())
        elif case.kind is EngineKind.LLAMACPP:  # some of its answers are put together of pieces
            assert without_nulls(orjson.loads(body)) == without_nulls(direct.json())
        else:
            assert body == direct.content


@those(lambda case: Capability.NATIVE in case.can)
async def test_whoever_wants_a_whole_answer_needs_not_say_so_on_ollama_s_own_paths(engine: Engine) -> None:
    asked = question("/api/generate")
    fields = orjson.loads(asked.body)
    del fields["stream"]
    body = await said(engine, Question(asked.id, asked.endpoint, asked.model, asked.stream, orjson.dumps(fields)))
    assert orjson.loads(body)["response"] == numbered(0, 5)


async def test_a_job_s_identity_goes_along(case: EngineCase, double: EngineProcess, engine: Engine) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    asked = question(case.endpoints[0], stream=False)
    await said(engine, Question("a" * 32, asked.endpoint, asked.model, asked.stream, asked.body, trace))
    headers = double.state()["requests"][-1]["headers"]
    assert (headers["x-request-id"], headers["traceparent"]) == ("a" * 32, trace)


async def test_a_key_is_sent_and_its_lack_is_the_provider_s_trouble_not_the_client_s(case: EngineCase) -> None:
    async with AsyncExitStack() as stack:
        double = stack.enter_context(case.start(api_key="s3cret"))
        engine = await open_engine(EngineSettings(url=double.url, api_key="s3cret"))
        stack.push_async_callback(engine.aclose)
        assert (await engine.status()).models
        assert await said(engine, question(case.endpoints[0]))
        keyless = await open_engine(EngineSettings(url=double.url, kind=case.kind))
        stack.push_async_callback(keyless.aclose)
        with pytest.raises(EngineRefused) as caught:
            await said(keyless, question(case.endpoints[0]))
    assert (caught.value.failure.status, caught.value.failure.code) == (502, "engine_unauthorized")


# How it ends


@those(lambda case: bool(case.streaming))
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_leaving_in_mid_answer_frees_the_engine_within_a_second(
    stream: bool, case: EngineCase, double: EngineProcess, engine: Engine
) -> None:
    for endpoint in case.streaming:
        limit = {"max_output_tokens": 1000} if endpoint == "/v1/responses" else {}
        call = asyncio.create_task(said(engine, question(endpoint, stream=stream, **SLOW, **limit)))
        await double.wait_open(1)
        call.cancel()
        await double.wait_open(0, within_s=1)
        await asyncio.wait([call])
        assert double.state()["requests"][-1]["outcome"] == "cancelled"
    assert double.state()["cancelled"] == len(case.streaming)


@those(lambda case: case.kind is EngineKind.LLAMACPP)
async def test_llama_cpp_tells_how_many_slots_are_taken(double: EngineProcess, engine: Engine) -> None:
    call = asyncio.create_task(said(engine, question("/v1/chat/completions", stream=True, **SLOW)))
    await double.wait_open(1)
    assert (await engine.status()).in_use == 1
    call.cancel()
    await asyncio.wait([call])


async def test_an_engine_that_dies_is_down_and_comes_back(case: EngineCase) -> None:
    with case.start() as double:
        engine = await open_engine(EngineSettings(url=double.url))
        double.kill()
        with pytest.raises(EngineDown):
            await engine.status()
        with pytest.raises(EngineDown):
            await said(engine, question(case.endpoints[0]))
        with pytest.raises(EngineDown):
            await open_engine(EngineSettings(url=double.url))
        double.start()
        assert (await engine.status()).capabilities == case.can
        await engine.aclose()


@those(lambda case: bool(case.streaming))
async def test_an_engine_that_breaks_off_is_told_from_one_that_is_down(case: EngineCase) -> None:
    with case.start() as double:
        engine = await open_engine(EngineSettings(url=double.url))
        for endpoint in case.streaming:
            with pytest.raises(EngineBroke) as caught:
                await said(engine, question(endpoint, stream=True, double={"cut_after": 2}))
            assert caught.value.failure.retryable
        await engine.aclose()


@pytest.mark.parametrize(
    ("status", "heard", "is_retryable"), [(400, 400, False), (422, 422, False), (500, 502, True), (503, 503, True)]
)
async def test_a_refusal_is_heard_in_the_engine_s_words(
    status: int, heard: int, is_retryable: bool, case: EngineCase, engine: Engine
) -> None:
    words = "Loading model" if status == 503 and case.kind in ("llamacpp", "openai") else f"scripted failure {status}"
    for endpoint in case.endpoints:
        with pytest.raises(EngineFailed) as caught:
            await said(engine, question(endpoint, double={"status": status}))
        failure = caught.value.failure
        assert (failure.status, failure.message, failure.retryable) == (heard, words, is_retryable)


@pytest.mark.parametrize(
    "body",
    [
        '{"error":"model requires more system memory (9.4 GiB) than is available (4.1 GiB)"}',
        '{"error":{"message":"CUDA out of memory. Tried to allocate 2.00 GiB","type":"","code":500}}',
    ],
    ids=["ollama", "cuda"],
)
async def test_want_of_memory_is_told_from_failure(body: str, case: EngineCase, engine: Engine) -> None:
    with pytest.raises(EngineFull):
        await said(engine, question(case.endpoints[0], double={"status": 500, "error_body": body}))


@those(lambda case: case.knows_its_models)
async def test_a_model_that_the_engine_does_not_have_is_not_the_client_s_mistake(
    case: EngineCase, engine: Engine
) -> None:
    await engine.status()
    for endpoint in case.endpoints:
        with pytest.raises(ModelGone) as caught:
            await said(engine, question(endpoint, model="nobody:7b"))
        assert "nobody:7b" in caught.value.failure.message


async def test_a_malformed_request_is_refused_for_good(case: EngineCase, engine: Engine) -> None:
    for endpoint in case.endpoints:
        asked = Question("0" * 32, endpoint, question(endpoint).model, stream=False, body=b'{"model": 5}')
        with pytest.raises(EngineRefused) as caught:
            await said(engine, asked)
        assert (caught.value.failure.status, caught.value.failure.retryable) == (400, False)
