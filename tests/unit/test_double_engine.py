"""The test engine does what it claims: without this, a green suite above it would prove nothing."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest

from tests.doubles.process import EngineProcess, EngineProcessError
from tests.doubles.reading import events_in, numbered, said_in
from tests.doubles.scripted import run_end
from tests.doubles.stream import EXIT_STATUS

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@pytest.fixture(scope="module")
def shared_engine() -> Iterator[EngineProcess]:
    with EngineProcess(models=("tiny:1b", "small:3b")) as engine:
        yield engine


@pytest.fixture
def engine(shared_engine: EngineProcess) -> EngineProcess:
    shared_engine.configure()
    shared_engine.reset()
    return shared_engine


@pytest.fixture
async def client(engine: EngineProcess) -> AsyncIterator[httpx2.AsyncClient]:
    async with _client(engine) as client:
        yield client


def _client(engine: EngineProcess) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=engine.url, timeout=5, trust_env=False)


def _body(count: int = 3, *, stream: bool = True, said: str = "", **double: object) -> dict[str, Any]:
    """A chat request for count tokens; said is what the assistant already answered."""
    messages = [{"role": "user", "content": "count for me"}]
    if said:
        messages.append({"role": "assistant", "content": said})
    return {
        "model": "tiny:1b",
        "stream": stream,
        "max_tokens": count,
        "messages": messages,
        "double": double,
        "stream_options": {"include_usage": True},
    }


async def _cut_short(client: httpx2.AsyncClient, body: dict[str, Any]) -> str:
    """What arrives of a stream whose connection breaks."""
    text = ""
    async with client.stream("POST", CHAT, json=body) as response:
        try:
            async for piece in response.aiter_text():
                text += piece
        except (httpx2.RemoteProtocolError, httpx2.ReadError):
            return text
    raise AssertionError(f"the stream ended cleanly: {text!r}")


async def _wire_chunks(engine: EngineProcess, body: dict[str, Any]) -> list[bytes]:
    """The HTTP chunks of a stream, one per write of the engine."""
    payload = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(engine.url.rpartition(":")[2]))
    writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (CHAT.encode(), len(payload)))
    writer.write(payload)
    chunks: list[bytes] = []
    await reader.readuntil(b"\r\n\r\n")
    while size := int(await reader.readline(), 16):
        chunks.append((await reader.readexactly(size + 2))[:-2])
    writer.close()
    await writer.wait_closed()
    return chunks


async def test_it_is_healthy_and_lists_its_models(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/health")).json() == {"status": "ok"}
    models = (await client.get("/v1/models")).json()
    assert models["object"] == "list"
    assert [model["id"] for model in models["data"]] == ["tiny:1b", "small:3b"]


async def test_a_chat_stream_is_role_tokens_finish_usage_done(client: httpx2.AsyncClient) -> None:
    response = await client.post(CHAT, json=_body(3))
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.endswith("}\n\ndata: [DONE]\n\n")
    events = events_in(response.text)
    deltas = [event["choices"][0]["delta"] for event in events[:-1]]
    assert deltas == [
        {"role": "assistant", "content": ""},
        *({"content": f"t{i} "} for i in range(3)),
        {},
    ]
    assert [event["choices"][0]["finish_reason"] for event in events[:-1]] == [None] * 4 + ["length"]
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    shared = {(event["id"], event["object"], event["created"], event["model"]) for event in events}
    assert len(shared) == 1
    assert all("system_fingerprint" in event for event in events)


async def test_completions_and_whole_answers_have_their_own_shapes(client: httpx2.AsyncClient) -> None:
    prompt = {"model": "tiny:1b", "prompt": "say four words", "max_completion_tokens": 2}
    streamed = await client.post(COMPLETIONS, json={**prompt, "stream": True})
    assert [event["choices"][0]["text"] for event in events_in(streamed.text)] == ["t0 ", "t1 ", ""]
    assert {event["object"] for event in events_in(streamed.text)} == {"text_completion"}
    whole = (await client.post(COMPLETIONS, json=prompt)).json()
    assert (whole["object"], whole["choices"][0]["text"]) == ("text_completion", "t0 t1 ")
    chat = (await client.post(CHAT, json=_body(2, stream=False))).json()
    assert chat["object"] == "chat.completion"
    assert chat["choices"][0]["message"] == {"role": "assistant", "content": "t0 t1 "}
    assert chat["usage"]["completion_tokens"] == 2
    unlimited = (await client.post(COMPLETIONS, json={"model": "m", "prompt": ""})).json()
    assert unlimited["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize(("prompt", "said"), [("Count: t0 t1 ", "t2 t3 "), ("Count: t0 t1", " t2 t3 ")])
async def test_a_prompt_that_ends_in_tokens_is_continued_after_them(
    prompt: str, said: str, client: httpx2.AsyncClient, engine: EngineProcess
) -> None:
    body = {"model": "tiny:1b", "prompt": prompt, "max_tokens": 2}
    assert (await client.post(COMPLETIONS, json=body)).json()["choices"][0]["text"] == said
    assert said_in((await client.post(COMPLETIONS, json={**body, "stream": True})).text) == said
    assert [request["begun_tokens"] for request in engine.state()["requests"]] == [2, 2]


async def test_without_a_limit_the_rest_of_an_answer_is_as_long_as_the_whole_would_leave_it(
    client: httpx2.AsyncClient,
) -> None:
    body = {"model": "tiny:1b", "prompt": "t0 t1 "}
    assert (await client.post(COMPLETIONS, json=body)).json()["usage"]["completion_tokens"] == 14


async def test_a_chat_is_answered_anew_whoever_spoke_last(client: httpx2.AsyncClient, engine: EngineProcess) -> None:
    assert said_in((await client.post(CHAT, json=_body(2, said="t0 t1 t2 "))).text) == "t0 t1 "
    assert engine.state()["requests"][-1]["begun_tokens"] == 0


@pytest.mark.parametrize(
    ("text", "continued"),
    [("", 0), ("t0 ", 1), ("Say:t0 t1 ", 2), ("t0 t1", 2), ("t1 t2 ", 0), ("t0 t2 ", 0), ("t999999999 ", 0)],
)
def test_only_an_unbroken_run_from_the_first_token_is_continued(text: str, continued: int) -> None:
    assert run_end(text)[0] == continued


@pytest.mark.parametrize(
    "double",
    [
        {"hang": True},
        {"first_byte_ms": 60_000},
        {"prefill_ms": 60_000},
        {"delay_ms": 60_000},
        {"stall_after": 1},
        {"stall_after": 3},
    ],
    ids=lambda double: "-".join(map(str, *double.items())),
)
@pytest.mark.parametrize("form", ["stream", "whole"])
async def test_a_client_that_leaves_is_noticed_during_any_wait(
    engine: EngineProcess, double: dict[str, Any], form: str
) -> None:
    async with _client(engine) as client:
        call = asyncio.create_task(client.post(CHAT, json=_body(3, stream=form == "stream", **double)))
        await engine.wait_open(1)
        assert engine.state()["running"] == 1
        call.cancel()
        await asyncio.wait([call])
        await engine.wait_open(0, within_s=0.5)
    state = engine.state()
    assert (state["started"], state["finished"], state["cancelled"]) == (1, 0, 1)
    assert state["requests"][-1]["outcome"] == "cancelled"


async def test_a_client_that_leaves_mid_stream_is_noticed_between_tokens(
    engine: EngineProcess, client: httpx2.AsyncClient
) -> None:
    async with client.stream("POST", CHAT, json=_body(10**9)) as response:
        async for _ in response.aiter_raw():
            break
    await engine.wait_open(0)
    assert engine.state()["cancelled"] == 1


async def test_a_generation_beyond_the_slots_waits_in_line_and_may_leave_it() -> None:
    with EngineProcess(slots=1) as engine:
        async with _client(engine) as client:
            calls = [asyncio.create_task(client.post(CHAT, json=_body(1, stall_after=0)))]
            await engine.wait_open(1)
            calls += [asyncio.create_task(client.post(CHAT, json=_body(1))) for _ in range(2)]
            await engine.wait_open(3)
            assert (engine.state()["running"], engine.state()["max_open"]) == (1, 3)
            calls[1].cancel()
            await engine.wait_open(2)
            calls[0].cancel()
            assert said_in((await calls[2]).text) == "t0 "
            await asyncio.wait(calls)
        await engine.wait_open(0)
        state = engine.state()
    assert (state["running"], state["finished"], state["cancelled"]) == (0, 1, 2)


async def test_a_cut_drops_the_connection_after_exactly_so_many_tokens(
    engine: EngineProcess, client: httpx2.AsyncClient
) -> None:
    assert said_in(await _cut_short(client, _body(9, cut_after=4))) == "t0 t1 t2 t3 "
    assert said_in(await _cut_short(client, _body(9, cut_after=0))) == ""
    with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
        await client.post(CHAT, json=_body(9, stream=False, cut_after=4))
    await engine.wait_open(0)
    assert [request["outcome"] for request in engine.state()["requests"]] == ["failed"] * 3


async def test_an_exit_ends_the_process_and_start_brings_it_back_at_the_same_address() -> None:
    with EngineProcess() as engine:
        address, first_pid = engine.url, engine.pid
        async with _client(engine) as client:
            assert said_in(await _cut_short(client, _body(9, exit_after=2))) == "t0 t1 "
        assert await asyncio.to_thread(engine.wait_exit) == EXIT_STATUS
        await asyncio.to_thread(engine.start)
        assert (engine.url, engine.state()["started"]) == (address, 0)
        assert engine.pid != first_pid
        engine.kill()
        async with _client(engine) as client:
            with pytest.raises(httpx2.ConnectError):
                await client.get("/health")


async def test_an_error_event_ends_a_stream_as_in_vllm(client: httpx2.AsyncClient) -> None:
    streamed = await client.post(CHAT, json=_body(9, error_event_after=2))
    assert said_in(streamed.text) == "t0 t1 "
    assert events_in(streamed.text)[-1]["error"]["code"] == 500
    assert streamed.text.endswith("data: [DONE]\n\n")
    whole = await client.post(CHAT, json=_body(9, stream=False, error_event_after=2))
    assert (whole.status_code, whole.json()["error"]["type"]) == (500, "server_error")


async def test_it_refuses_with_the_status_and_the_bytes_asked_for(client: httpx2.AsyncClient) -> None:
    loading = await client.post(CHAT, json=_body(status=503))
    assert loading.status_code == 503
    assert loading.json() == {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
    page = await client.post(CHAT, json=_body(status=502, error_body="<h1>Bad Gateway</h1>"))
    assert (page.status_code, page.text) == (502, "<h1>Bad Gateway</h1>")
    assert page.headers["content-type"].startswith("text/html")


async def test_bad_json_is_no_json(client: httpx2.AsyncClient) -> None:
    whole = await client.post(CHAT, json=_body(stream=False, bad_json=True))
    assert whole.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        whole.json()
    streamed = await client.post(CHAT, json=_body(3, bad_json=True))
    with pytest.raises(json.JSONDecodeError):
        events_in(streamed.text)


async def test_events_are_joined_split_padded_and_ended_as_asked(engine: EngineProcess) -> None:
    plain = await _wire_chunks(engine, _body(6))
    assert len(plain) == 1 + 6 + 3  # role, tokens, then finish, usage and [DONE]
    joined = await _wire_chunks(engine, _body(6, per_write=3))
    assert [chunk.count(b"data: ") for chunk in joined] == [1, 3, 3, 3]
    split = await _wire_chunks(engine, _body(6, split_bytes=7))
    assert max(map(len, split)) == 7
    padded = await _wire_chunks(engine, _body(6, event_bytes=2000))
    assert [len(chunk) for chunk in padded[1:7]] == [2000] * 6
    crlf = await _wire_chunks(engine, _body(6, crlf=True))
    assert all(chunk.endswith(b"\r\n\r\n") and chunk.count(b"\n") == 2 for chunk in crlf)
    commented = await _wire_chunks(engine, _body(6, comments=True))
    assert [chunk.startswith(b": ping\n\n") for chunk in commented[1:7]] == [True, *[False] * 3, True, False]
    undone = await _wire_chunks(engine, _body(6, close_without_done=True))
    assert len(undone) == len(plain) - 1
    for chunks in (plain, joined, split, padded, crlf, commented, undone):
        assert said_in(b"".join(chunks).decode()) == numbered(0, 6)


async def test_delays_last_as_asked_and_no_stream_waits_for_another(
    client: httpx2.AsyncClient,
) -> None:
    began = time.monotonic()
    answers = await asyncio.gather(
        *(client.post(CHAT, json=_body(5, delay_ms=20, prefill_ms=50, first_byte_ms=50)) for _ in range(20))
    )
    took_s = time.monotonic() - began
    assert {said_in(answer.text) for answer in answers} == {"t0 t1 t2 t3 t4 "}
    assert 0.2 <= took_s < 3  # one after the other they would take 4 s


async def test_process_wide_faults_hold_until_replaced_and_the_body_wins(
    engine: EngineProcess, client: httpx2.AsyncClient
) -> None:
    engine.configure(status=500, probes=True)
    assert (await client.post(CHAT, json=_body())).status_code == 500
    assert (await client.post(CHAT, json=_body(status=429))).status_code == 429
    assert (await client.get("/health")).status_code == 500
    engine.configure(status=500)
    assert (await client.get("/health")).status_code == 200
    engine.configure()
    assert (await client.post(CHAT, json=_body())).status_code == 200


async def test_a_mistaken_request_or_fault_is_told_and_not_ignored(
    engine: EngineProcess, client: httpx2.AsyncClient
) -> None:
    for body in (
        _body(stall_afterwards=1),
        _body(stall_after="1"),
        _body(stall_after=True),
        _body(per_write=0),
    ):
        assert (await client.post(CHAT, json=body)).status_code == 400
    for content in (b"{", b"[]", b'{"model":"m"}', b'{"model":"m","messages":[],"max_tokens":-1}'):
        assert (await client.post(CHAT, content=content)).status_code == 400
    assert engine.state()["started"] == 0
    with pytest.raises(EngineProcessError, match="unknown faults: hangs"):
        engine.configure(hangs=True)


async def test_the_books_show_what_arrived_but_no_key_and_no_text(
    engine: EngineProcess, client: httpx2.AsyncClient
) -> None:
    content = json.dumps(_body(1)).encode()
    headers = {"authorization": "Bearer secret", "x-request-id": "r1", "content-type": "application/json"}
    for _ in range(55):
        await client.post(CHAT, content=content, headers=headers)
    state = engine.state()
    assert (state["started"], state["finished"], state["open"], len(state["requests"])) == (55, 55, 0, 50)
    assert state["requests"][-1] == {
        "path": CHAT,
        "model": "tiny:1b",
        "body_sha256": hashlib.sha256(content).hexdigest(),
        "body_bytes": len(content),
        "headers": {
            "authorization": True,
            "content-type": "application/json",
            "x-request-id": "r1",
            "traceparent": None,
        },
        "begun_tokens": 0,
        "outcome": "finished",
    }
    engine.reset()
    assert (engine.state()["started"], engine.state()["requests"]) == (0, [])
    with pytest.raises(AssertionError, match=r"0 generations open after 0\.05 s, expected 1"):
        await engine.wait_open(1, within_s=0.05)


async def test_with_a_key_only_its_bearer_may_ask() -> None:
    with EngineProcess(api_key="-k1") as engine:
        async with _client(engine) as client:
            assert (await client.get("/health")).status_code == 200
            refused = await client.post(CHAT, json=_body())
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
            assert (await client.get("/v1/models")).status_code == 401
            key = {"authorization": "Bearer -k1"}
            assert (await client.get("/v1/models", headers=key)).status_code == 200
            assert said_in((await client.post(CHAT, json=_body(1), headers=key)).text) == "t0 "
        outcomes = [request["outcome"] for request in engine.state()["requests"]]
    assert outcomes == ["refused", "finished"]


async def test_a_body_of_up_to_64_mib_is_taken(client: httpx2.AsyncClient) -> None:
    frame = b'{"model":"m","max_tokens":1,"prompt":"%b"}'
    room = 64 * 2**20 - len(frame % b"")
    assert (await client.post(COMPLETIONS, content=frame % (b"x" * room))).status_code == 200
    assert (await client.post(COMPLETIONS, content=frame % (b"x" * (room + 1)))).status_code == 413
