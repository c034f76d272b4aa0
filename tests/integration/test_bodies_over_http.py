"""Request bodies: what is no request is refused in OpenAI's shape and costs no slot, all else arrives as it was."""

import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import CHAT, COMPLETIONS, Answer, Call, get, post
from tests.support.grid import Chain, Grid, chat
from tests.support.processes import until

LIMIT_BYTES = 6 * 2**20
MESSAGES = b'"messages": [{"role": "user", "content": "hi"}]'
REST = b'"model": "tiny:1b", ' + MESSAGES


@pytest.fixture(scope="module")
def _chain(module_grid: Grid) -> Chain:
    return module_grid.chain(GHUB_HUB_MAX_BODY_BYTES=str(LIMIT_BYTES))


@pytest.fixture
def chain(_chain: Chain, module_grid: Grid) -> Iterator[Chain]:
    """A chain that takes bodies of up to 6 MiB; after each test nothing is left of them."""
    _chain.engine.reset()
    yield _chain
    with module_grid.redis() as client:
        leftovers.until_at_rest(client, 5)
    assert get(_chain.hub, "/health").json["open_requests"] == 0


@pytest.fixture
def untouched(chain: Chain, module_grid: Grid) -> Iterator[Chain]:
    """A chain of which the test must not make any use beyond its hub."""
    with module_grid.redis() as client:
        before = (leftovers.entries_added(client), leftovers.jobs(client), len(leftovers.replies(client)))
        yield chain
        after = (leftovers.entries_added(client), leftovers.jobs(client), len(leftovers.replies(client)))
    assert after[:2] == before[:2], "a job was published"
    assert after[2] <= before[2], "a reply was opened"
    state = chain.engine.state()
    assert state["started"] == 0
    assert state["requests"] == []


def _refused(answer: Answer) -> tuple[int, str, str | None]:
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert answer.error["type"] == "invalid_request_error"
    return answer.status, answer.error["code"], answer.error["param"]


def _body(**fields: object) -> bytes:
    return json.dumps({**chat(tokens=3), **fields}).encode()


def _arrives(chain: Chain, body: bytes, *, path: str = CHAT, **options: Any) -> Answer:
    """Send it, and see it arrive at the engine byte for byte."""
    answer = post(chain.hub, body, path=path, **options)
    assert answer.status == 200, answer.text[:500]
    (record,) = chain.engine.state()["requests"]
    assert (record["path"], record["body_bytes"]) == (path, len(body))
    assert record["body_sha256"] == hashlib.sha256(body).hexdigest()
    return answer


# What is no request


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b"hello",
        b"{" + REST,
        b"{" + REST + b"}}",
        b"{" + REST + b",}",
        b"{'model': 'tiny:1b'}",
        b"\xef\xbb\xbf{" + REST + b"}",
        b"{" + REST + b', "user": "\xff\xfe"}',
        b"{" + REST + b', "user": "\xed\xa0\x80"}',
        b"{" + REST + b', "temperature": NaN}',
        b"{" + REST + b', "seed": Infinity}',
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
        b"\x00" * 100,
        b"[" * 100_000,
        b"{" + REST + b', "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 100_000,
    ],
    ids=lambda body: repr(body[:60]),
)
def test_what_is_not_json_is_refused(untouched: Chain, body: bytes) -> None:
    for path in (CHAT, COMPLETIONS):
        assert _refused(post(untouched.hub, body, path=path)) == (400, "invalid_json", None)


@pytest.mark.parametrize("body", [b"[]", b"[{" + REST + b"}]", b'"text"', b"null", b"17", b"true"])
def test_json_that_is_no_object_is_refused(untouched: Chain, body: bytes) -> None:
    assert _refused(post(untouched.hub, body)) == (400, "invalid_type", None)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"{}", "missing_required_parameter", "model"),
        (b"{" + MESSAGES + b"}", "missing_required_parameter", "model"),
        (b'{"model": "tiny:1b"}', "missing_required_parameter", "messages"),
        (_body(model=None), "invalid_type", "model"),
        (_body(model=7), "invalid_type", "model"),
        (_body(model=["tiny:1b"]), "invalid_type", "model"),
        (_body(model=""), "invalid_value", "model"),
        (_body(model="m" * 100_000), "invalid_value", "model"),
        (_body(messages=None), "invalid_type", "messages"),
        (_body(messages=[]), "invalid_value", "messages"),
        (_body(messages="hi"), "invalid_type", "messages"),
        (_body(messages={"role": "user"}), "invalid_type", "messages"),
        (_body(messages=[{"role": "user"}, "hi"]), "invalid_type", "messages.1"),
        (_body(messages=["hi"] * 100_000), "invalid_type", "messages.0"),
        (_body(stream="yes"), "invalid_type", "stream"),
        (_body(stream=1), "invalid_type", "stream"),
        (_body(max_tokens="5"), "invalid_type", "max_tokens"),
        (_body(max_tokens=1.5), "invalid_type", "max_tokens"),
        (_body(max_tokens=-1), "invalid_value", "max_tokens"),
        (_body(max_completion_tokens=True), "invalid_type", "max_completion_tokens"),
        (_body(n=0), "invalid_value", "n"),
        (_body(temperature="hot"), "invalid_type", "temperature"),
        (_body(stop=[1]), "invalid_type", "stop"),
        (_body(tools={}), "invalid_type", "tools"),
    ],
)
def test_a_field_that_is_missing_or_wrong_is_named(untouched: Chain, body: bytes, code: str, param: str) -> None:
    answer = post(untouched.hub, body)
    assert _refused(answer) == (400, code, param)
    assert len(answer.text) < 1000, "the message must not repeat a large body"


@pytest.mark.parametrize(
    ("prompt", "code"),
    [({}, "missing_required_parameter"), *(({"prompt": one}, "invalid_type") for one in (None, 5, {}, [1.5], [{}]))],
)
def test_a_completion_without_a_prompt_is_refused(untouched: Chain, prompt: dict[str, object], code: str) -> None:
    answer = post(untouched.hub, {"model": "tiny:1b", **prompt}, path=COMPLETIONS)
    status, told, param = _refused(answer)
    assert (status, told) == (400, code)
    assert str(param).partition(".")[0] == "prompt"


def test_a_model_nobody_serves_is_not_found(untouched: Chain) -> None:
    for model in ("never:seen", "tiny", "TINY:1C", "tiny:1b ", "ti\x00ny", "evil:tiny:1b", "*", "模型"):
        assert _refused(post(untouched.hub, chat(model=model))) == (404, "model_not_found", "model")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", CHAT, 405, "method_not_allowed"),
        ("PUT", CHAT, 405, "method_not_allowed"),
        ("DELETE", COMPLETIONS, 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/", 405, "method_not_allowed"),
        ("POST", "/v1/chat/completion", 404, "unknown_url"),
        ("POST", CHAT + "/", 404, "unknown_url"),
        ("POST", "/v1" + CHAT, 404, "unknown_url"),
        ("POST", "//v1/chat/completions", 404, "unknown_url"),
        ("GET", "/v1/%ff%00", 404, "unknown_url"),
        ("GET", "/" + "a" * 20_000, 404, "unknown_url"),
    ],
)
def test_a_wrong_address_is_refused(untouched: Chain, method: str, path: str, status: int, code: str) -> None:
    answer = post(untouched.hub, chat(), method=method, path=path)
    assert _refused(answer) == (status, code, None)
    if status == 405:
        assert answer.headers["allow"]


# What is too large


def test_a_body_at_the_limit_passes_and_one_byte_more_does_not(chain: Chain) -> None:
    body = _body(user="")
    at_limit = _body(user="u" * (LIMIT_BYTES - len(body)))
    assert len(at_limit) == LIMIT_BYTES
    assert _arrives(chain, at_limit).said == numbered(0, 3)
    for sent in (at_limit + b" ", iter([at_limit, b" "])):  # with a Content-Length, and in chunks
        assert _refused(post(chain.hub, sent)) == (413, "request_too_large", None)
    assert chain.engine.state()["started"] == 1


def test_a_body_that_is_announced_too_large_is_refused_before_it_is_sent(untouched: Chain) -> None:
    with Call(untouched.hub, b"{", headers={"content-length": str(100 * 2**20)}) as call:
        assert call.status == 413
    with Call(untouched.hub, b"{", headers={"content-length": "9" * 18}) as call:
        assert call.status == 413


def test_an_endless_body_in_chunks_is_refused_as_soon_as_it_has_passed_the_limit(untouched: Chain) -> None:
    piece = b"%x\r\n%b\r\n" % (2**20, b"u" * 2**20)
    sent = piece * (LIMIT_BYTES // 2**20 + 1)
    with Call(untouched.hub, sent, headers={"transfer-encoding": "chunked"}) as call:
        assert call.status == 413


def test_a_client_that_leaves_within_its_body_leaves_nothing(untouched: Chain) -> None:
    for leave in (Call.close, Call.drop):
        call = Call(untouched.hub, b"{" + REST, headers={"content-length": "5000"})
        leave(call)
    until(lambda: get(untouched.hub, "/health").json["open_requests"] == 0, 5, "nothing is open")


def test_a_hub_answers_others_while_one_body_is_slow_to_come(chain: Chain) -> None:
    body = _body()
    with Call(chain.hub, body[:10], headers={"content-length": str(len(body))}) as slow:
        assert post(chain.hub, chat(tokens=3)).said == numbered(0, 3)
        slow.socket.sendall(body[10:])
        assert slow.finish().said == numbered(0, 3)


def test_bad_bodies_of_any_size_are_refused_quickly(untouched: Chain) -> None:
    for body in (b"[" * (5 * 2**20), _body(messages=[1] * 2**20), b'{"model": "' + b"m" * (5 * 2**20)):
        began = time.monotonic()
        assert _refused(post(untouched.hub, body))[0] == 400
        assert time.monotonic() - began < 5


# What arrives


def test_a_prompt_of_five_megabytes_arrives(chain: Chain) -> None:
    words = " ".join(f"w{n}" for n in range(700_000))
    body = _body(messages=[{"role": "user", "content": words}])
    assert len(body) > 5_000_000
    began = time.monotonic()
    answer = _arrives(chain, body)
    print(f"{len(body) / 1e6:.1f} MB there and back in {(time.monotonic() - began) * 1000:.0f} ms")
    assert answer.said == numbered(0, 3)
    assert answer.json["usage"]["prompt_tokens"] == 700_000


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {}}}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0KGgo" * 20_000}}


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n\t {  " + REST + b' ,\n\n "max_tokens"\t:3}\n \n',
        b"{" + REST + rb', "user": "\u00e9\ud83d\ude00\/\u0000\"\\"}',
        b"{" + REST + ', "user": "é😀\u2028\u200f"}'.encode(),
        b"{" + REST + b', "seed": 1.0e+00, "logit_bias": {"1": -1E2}, "x": 123456789012345678901234567890}',
        b"{" + REST + b', "unknown": {"b": [], "a": {}, "": null}, "x-y z": [[[1]]]}',
        b'{"model": "other", "model": "tiny:1b", ' + MESSAGES + b"}",
        b"{" + REST + b', "deep": ' + b"[" * 100 + b"]" * 100 + b"}",
        b"{" + REST + b', "user": "NaN and Infinity are words here"}',
        _body(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "f"}}, parallel_tool_calls=False),
        _body(messages=[{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}, {"role": "tool"}]),
        _body(messages=[{"role": "user", "content": [{"type": "text", "text": "What is this?"}, IMAGE]}]),
        _body(response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}),
        _body(stop=["\n", "END"], temperature=0, top_p=1, n=1, stream_options=None, logprobs=True, top_logprobs=5),
        _body(max_tokens=None, max_completion_tokens=3, stream=None, tools=None, stop=None),
    ],
    ids=lambda body: repr(body[-40:]),
)
def test_a_chat_body_arrives_byte_for_byte(chain: Chain, body: bytes) -> None:
    _arrives(chain, body)


@pytest.mark.parametrize("prompt", ["text", "", ["text"]])
def test_a_completion_body_arrives_byte_for_byte(chain: Chain, prompt: object) -> None:
    body = json.dumps({"suffix": "x", "prompt": prompt, "max_tokens": 3, "echo": False, "model": "tiny:1b"}).encode()
    assert _arrives(chain, body, path=COMPLETIONS).said == numbered(0, 3)


def test_how_the_body_was_sent_changes_nothing(chain: Chain) -> None:
    body = _body(user="é" * 1000)
    for headers in ({"content-type": "text/plain"}, {"content-type": "application/json; charset=utf-8"}):
        _arrives(chain, body, headers=headers)
        chain.engine.reset()
    answer = post(chain.hub, iter([body[:1], body[1:1003], body[1003:]]))
    assert answer.said == numbered(0, 3)
    assert chain.engine.state()["requests"][0]["body_sha256"] == hashlib.sha256(body).hexdigest()


def test_a_query_does_not_reach_the_engine_as_part_of_the_path(chain: Chain) -> None:
    assert post(chain.hub, chat(tokens=3), path=CHAT + "?api-version=2024-10-21").said == numbered(0, 3)
    assert chain.engine.state()["requests"][0]["path"] == CHAT


def test_the_clients_key_stays_here_and_its_trace_goes_along(chain: Chain) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = post(chain.hub, chat(), headers={"authorization": "Bearer sk-client-secret", "traceparent": trace})
    (record,) = chain.engine.state()["requests"]
    assert record["headers"]["authorization"] is False
    assert record["headers"]["traceparent"] == trace
    assert record["headers"]["x-request-id"] == answer.headers["x-request-id"]
