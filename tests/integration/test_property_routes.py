"""Garbage for every route of a hub: whatever comes is answered soon, in the shape of the API that was called."""

import asyncio
import json
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings

from common.broker.broker import connect
from common.records.credentials import ClientKey, Credentials, digest_of
from hub.api.shapes import shape_of
from hub.errors import RequestFailed
from tests.support import late
from tests.support.call import Answer, Call
from tests.support.grid import Grid

KEY = "ghub-a-clients-key"
ADMIN = "an-admin-token-of-some-length"
TOKEN = "a-provider-token-of-some-length"
EXAMPLES = 10
"""Of each route and kind of nonsense: some fifty routes, and the suite has a minute and a half."""
ANSWER_WITHIN_S = 10
TOLD = {501, 502, 503, 504}
"""Statuses from 500 on that say what is the matter."""
ENDLESS = {"/api/overview/stream"}
"""Answers that go on until somebody leaves: there is no waiting for their end."""
OF_ITS_OWN = {("/api/provider/validate_hmac", 401): {"valid", "code", "message"}}
"""Refusals that have a form of their own."""


class Hub(NamedTuple):
    """A hub, and all it says that it does."""

    url: str
    openapi: dict[str, Any]

    @property
    def routes(self) -> list[tuple[str, str]]:
        """Method and path of each."""
        return [(method.upper(), path) for path, methods in self.openapi["paths"].items() for method in methods]


@pytest.fixture(scope="module")
def hub(module_grid: Grid) -> Iterator[Hub]:
    """With a node, with keys, and without patience."""

    async def make_key() -> None:
        broker = connect(module_grid.broker.url, prefix="ghub:", client_name="test")
        await Credentials(broker).add_key(ClientKey(digest_of(KEY), "right", created_at=0))
        await broker.aclose()

    asyncio.run(make_key())
    url = module_grid.hub(
        GHUB_HUB_AUTH="required",
        GHUB_HUB_ADMIN_TOKEN=ADMIN,
        GHUB_HUB_PROVIDER_TOKENS=TOKEN,
        GHUB_HUB_DIRECT_KEYS="d1:0123456789abcdef",
        GHUB_HUB_MODEL_WAIT_S="0.1",
        GHUB_HUB_QUEUE_TIMEOUT_S="1",
        GHUB_HUB_BODY_TIMEOUT_S="2",
        GHUB_HUB_MAX_BODY_BYTES=str(2**20),
    )
    module_grid.provider(module_grid.engine().url)
    answer = Call(url, path="/openapi.json", method="GET").finish()  # no secret, so nobody needs one to see it
    assert answer.status == 200
    yield Hub(url, answer.json)
    process = module_grid.hubs[url]
    assert process.is_running, process.tail()
    log = process.log.read_text(errors="replace")
    assert "Traceback" not in log, log[-5000:]
    assert "handler_crashed" not in log, log[-5000:]


def secret_for(path: str) -> str:
    """What opens a route: nonsense that is shown no more than a locked door finds nothing."""
    if path.startswith("/api/provider/"):
        return TOKEN
    is_clients = path.startswith("/v1/") or _skeleton(shape_of(path)) == {"error": ""}
    return KEY if is_clients else ADMIN


def check(method: str, path: str, status: int, text: str) -> None:
    """Fail unless an answer is one that a client can work with."""
    what = f"{method} {path}: {status} {text[:2000]}"
    assert status < 500 or status in TOLD, what
    assert "Traceback" not in text, what
    assert 'File "/' not in text, what
    if status < 400 or method == "HEAD":
        return
    said = json.loads(text)
    expected = OF_ITS_OWN.get((path, status))
    if expected is not None and set(said) == expected:
        return
    assert _shape(said) == _skeleton(shape_of(path)) or (status == 503 and path.startswith("/health")), what


def _shape(value: Any) -> Any:
    """The names in an object; request ids, which only some errors of an API have, left out."""
    if not isinstance(value, dict):
        return ""
    return {name: _shape(inner) for name, inner in value.items() if name != "request_id"}


def _skeleton(shape: Any) -> Any:
    return _shape(shape.error_fields(RequestFailed("x")))


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize("mode", ["positive", "negative"], ids=["fitting", "unfitting"])
def test_every_route_answers_whatever_its_schema_lets_one_think_of(hub: Hub, mode: str) -> None:
    generation_mode = late.schemathesis.GenerationMode(mode)
    schema = late.schemathesis.openapi.from_dict(hub.openapi)
    asked = 0
    with requests.Session() as session:
        session.trust_env = False
        for result in schema.get_all_operations():
            operation = result.ok()
            if operation.path in ENDLESS:
                continue
            headers = {"authorization": f"Bearer {secret_for(operation.path)}"}

            @given(case=operation.as_strategy(generation_mode=generation_mode))
            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def ask(case: "late.schemathesis.Case") -> None:
                nonlocal asked
                asked += 1
                answer = case.call(hub.url, session=session, headers=headers, timeout=ANSWER_WITHIN_S)  # noqa: B023
                check(case.method, case.path, answer.status_code, answer.text)

            if mode == "positive" or _can_be_wrong(operation):
                ask()
    print(f"figure: {asked} requests to {len(hub.routes)} routes")
    assert asked > len(hub.routes)


def _can_be_wrong(operation: Any) -> bool:
    return bool(operation.body or operation.query or operation.headers)


NESTED = b"[" * 100_000
BODIES = {
    "none": b"",
    "no JSON": b"\x00\x01 nonsense",
    "half": b'{"model": "tiny:1b", "messages": [{"role":',
    "invalid UTF-8": b'{"model": "\xff\xfe", "prompt": "\xc3("}',
    "a lone surrogate": b'{"model": "\\ud800", "prompt": "\\ud800", "messages": []}',
    "deep": NESTED,
    "deep inside": b'{"model": "tiny:1b", "prompt": "a", "messages": [], "x": ' + NESTED + b"]" * 100_000 + b"}",
    "deep where it is read": b'{"model": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
    "a huge number": b'{"model": "tiny:1b", "max_tokens": 1' + b"0" * 5000 + b', "messages": [], "prompt": "a"}',
    "not a number": b'{"model": "tiny:1b", "max_tokens": NaN, "messages": [], "prompt": "a", "temperature": -Infinity}',
    "another kind": b'["model"]',
    "a null": b"null",
    "wrong types": b'{"model": 5, "stream": "maybe", "messages": {"a": 1}, "prompt": {}, "name": [], "models": "a"}',
    "the same twice": b'{"model": "tiny:1b", "model": null, "name": "a", "name": 7}',
    "a long name": b'{"name": "' + b"x" * 100_000 + b'", "model": "' + b"y" * 100_000 + b'"}',
    "a zero byte": b'{"name": "a\\u0000b", "model": "a\\u0000b", "messages": [], "prompt": "\\u0000"}',
    "too long": b'{"model": "' + b"x" * (2**20 + 1) + b'"}',
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_no_body_upsets_a_route(hub: Hub, body: bytes) -> None:
    for method, path in hub.routes:
        if method in ("POST", "PUT", "PATCH", "DELETE"):
            answer = _asked(hub, method, path, body)
            check(method, path, answer.status, answer.text)
            assert answer.status != 404 or "Unknown request URL" not in answer.text, path


@pytest.mark.parametrize("content_type", ["", "text/plain", "multipart/form-data", "application/json; charset=utf-7"])
def test_no_content_type_upsets_a_route(hub: Hub, content_type: str) -> None:
    for method, path in hub.routes:
        if method == "POST":
            answer = _asked(hub, method, path, b'{"model": "none", "messages": []}', **{"content-type": content_type})
            check(method, path, answer.status, answer.text)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_every_method_is_answered_on_every_path(hub: Hub, method: str) -> None:
    for path in hub.openapi["paths"]:
        if (method, path) in hub.routes:
            continue
        answer = _asked(hub, method, path, b"")
        if method != "BREW":  # which never gets as far as to an API
            check(method, path, answer.status, answer.text)
        assert answer.status in (200, 400, 401, 403, 404, 405, 422), f"{method} {path}: {answer.status}"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/%00",
        "/v1/models/%ff%fe",
        "/v1/models/..%2f..%2fetc%2fpasswd",
        "/v1/models/" + "a" * 20_000,
        "/v1/models/%F0%9F%98%80",
        "/v1/nothing",
        "//v1/models",
        "/v1/models?" + "&".join(f"q{n}=1" for n in range(2000)),
        "/api/chat/",
        "/v1/messages/x",
    ],
)
def test_odd_paths_are_answered(hub: Hub, path: str) -> None:
    answer = _asked(hub, "GET", path, None)
    check("GET", path.partition("?")[0], answer.status, answer.text)
    assert answer.status in (200, 404, 405)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-ghub-lane": "\u00ff" * 10},
        {"x-ghub-deadline-s": "1e999"},
        {"x-ghub-deadline-s": "nan"},
        {"traceparent": "x" * 10_000},
        {"authorization": "Bearer " + "x" * 10_000},
        {"authorization": "Bearer \u00ff\u00fe"},
        {"content-length-x": "-1"},
        {"accept": "\u0001"},
    ],
)
def test_odd_headers_are_answered(hub: Hub, headers: dict[str, str]) -> None:
    for path in ("/v1/chat/completions", "/v1/completions"):
        body = b'{"model": "tiny:1b", "messages": [{"role": "user", "content": "a"}], "prompt": "a", "max_tokens": 1}'
        try:
            answer = _asked(hub, "POST", path, body, **headers)
        except ValueError:
            pytest.skip("no client sends that")
        check("POST", path, answer.status, answer.text)
        assert answer.status < 500


def test_a_body_that_never_comes_is_not_waited_for(hub: Hub) -> None:
    host, _, port = hub.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=ANSWER_WITHIN_S) as line:
        line.sendall(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {KEY}\r\n"
            "content-type: application/json\r\ncontent-length: 100\r\n\r\n{".encode()
        )
        assert b" 408 " in line.recv(4096)


def _asked(hub: Hub, method: str, path: str, body: bytes | None, **headers: str) -> Answer:
    shown = {"authorization": f"Bearer {secret_for(path)}", **headers}
    return Call(hub.url, body, path=path, method=method, headers=shown, within_s=ANSWER_WITHIN_S).finish()
