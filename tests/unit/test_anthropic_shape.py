"""What clients of Anthropic's API hear from a hub, and what it lets in."""

from typing import Any

import httpx2
import orjson
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from common.wire import Failure
from hub import errors
from hub.api.anthropic.bodies import CountTokensBody, MessageBody
from hub.api.anthropic.shape import ANTHROPIC
from hub.api.bodies import check_body
from hub.api.errors import error_response, install_error_handlers
from hub.errors import AttemptFailed, InvalidRequest, RequestFailed
from tests.unit.sse import SseReader

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, RequestFailed) and kind is not AttemptFailed
]
TYPES = {
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "api_error",
    "overloaded_error",
    "timeout_error",
}
TALK = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_refusal_has_a_type_that_its_clients_know(kind: type[RequestFailed]) -> None:
    response = error_response(kind("a sentence"), ANTHROPIC, {"x-request-id": "r-1"})
    body = orjson.loads(response.body)
    assert body == {
        "type": "error",
        "error": {"type": body["error"]["type"], "message": "a sentence"},
        "request_id": "r-1",
    }
    assert response.headers["request-id"] == "r-1"
    assert body["error"]["type"] in TYPES


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ],
)
def test_the_type_follows_from_the_status_whatever_the_engine_calls_it(status: int, word: str) -> None:
    failed = AttemptFailed(Failure(status, "code", "a sentence", type="NotFoundError"))
    assert ANTHROPIC.error_fields(failed)["error"] == {"type": word, "message": "a sentence"}


@given(st.integers(400, 599), st.text())
def test_an_error_in_a_stream_is_one_event_of_that_name(status: int, message: str) -> None:
    event = ANTHROPIC.error_event(RequestFailed(message, status=status))
    (read,) = SseReader().feed(event).events
    assert event.startswith(b"event: error\n")
    assert event.endswith(b"\n\n")
    assert orjson.loads(event.split(b"data: ", 1)[1])["error"]["message"] == message
    assert read


async def test_errors_of_its_paths_have_its_shape_and_name_the_request() -> None:
    app = FastAPI()
    install_error_handlers(app)
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://hub") as client:
        for path in ("/v1/messages", "/v1/messages/batches"):
            answer = await client.post(path)
            assert answer.status_code == 404
            assert answer.json()["error"] == {
                "type": "not_found_error",
                "message": f"This grid does not serve POST {path}.",
            }
            assert answer.json()["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]
        assert (await client.post("/v1/messagesx")).json()["error"]["code"] == "unknown_url"


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"max_tokens": 5, "stream": True, "system": "be nice", "temperature": 1, "top_p": 0.5},
        {"system": [{"type": "text", "text": "be nice", "cache_control": {"type": "ephemeral"}}]},
        {"tools": [{"name": "t", "input_schema": {}}], "stop_sequences": ["x"], "metadata": {"user_id": "u"}},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    ],
)
def test_what_its_clients_send_is_let_in(more: dict[str, Any]) -> None:
    body = orjson.dumps({"model": "m", "messages": TALK, **more})
    assert check_body(MessageBody, body).model == "m"
    assert not check_body(CountTokensBody, body).wants_stream


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [1] * 3}, "messages.0"),
        ({"model": ""}, "model"),
        ({"model": 5}, "model"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"system": 5}, "system"),
        ({"stop_sequences": "x"}, "stop_sequences"),
    ],
)
def test_what_cannot_be_a_request_is_refused_by_name(more: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_body(MessageBody, orjson.dumps({"model": "m", "messages": TALK, **more}))
    assert caught.value.param == param
