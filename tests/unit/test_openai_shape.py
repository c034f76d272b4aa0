"""What clients of OpenAI's API hear from a hub, held against OpenAI's published schema."""

from types import SimpleNamespace
from typing import Any, cast

import httpx2
import orjson
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from common.records.credentials import ClientKey
from common.types import ModelId
from common.wire import Failure
from hub import errors
from hub.access.gatekeeper import ANYONE, Caller, Gatekeeper
from hub.api.errors import install_error_handlers
from hub.api.openai.models import models_router
from hub.api.openai.shape import OPENAI
from hub.errors import AttemptFailed, DeadlineExceeded, RequestFailed
from hub.grid.model_names import ModelNames
from hub.grid.registry_view import RegistryView
from tests.support.openai_schema import assert_is

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, RequestFailed) and kind is not AttemptFailed
]
TEXTS = st.text(max_size=30)
FAILURES = st.builds(Failure, st.integers(400, 599), TEXTS, TEXTS, st.booleans(), TEXTS, st.none() | TEXTS)


class TestSchema:
    @pytest.mark.parametrize("answer", [{}, {"error": "x"}, {"error": {"message": "m", "type": "t", "param": None}}])
    def test_refuses_what_is_no_error(self, answer: object) -> None:
        with pytest.raises(AssertionError, match="no ErrorResponse"):
            assert_is("ErrorResponse", answer)


class TestErrors:
    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
    def test_every_refusal_has_openai_s_shape_and_a_code(self, kind: type[RequestFailed]) -> None:
        body = OPENAI.error_fields(kind("a sentence"))
        assert_is("ErrorResponse", body)
        assert body["error"]["code"]
        assert body["error"]["message"] == "a sentence"
        assert 400 <= kind.status < 600

    def test_codes_are_told_apart(self) -> None:
        codes = [kind.code for kind in KINDS]
        assert len({*codes}) == len(codes) > 8

    def test_who_is_to_blame_shows_in_the_type(self) -> None:
        for kind in KINDS:
            assert (kind.type == "server_error") == (kind.status >= 500 and kind is not DeadlineExceeded), kind

    @given(FAILURES)
    def test_whatever_an_attempt_failed_with_has_the_shape(self, failure: Failure) -> None:
        body = OPENAI.error_fields(AttemptFailed(failure))
        assert_is("ErrorResponse", body)
        assert body["error"]["message"] == failure.message

    @given(FAILURES)
    def test_an_error_in_a_stream_is_one_event_and_the_end(self, failure: Failure) -> None:
        events = OPENAI.error_event(AttemptFailed(failure))
        event, done, rest = events.split(b"\n\n")
        assert (done, rest) == (b"data: [DONE]", b"")
        assert event.startswith(b"data: ")
        assert b"\n" not in event
        assert b"\r" not in event
        assert_is("ErrorResponse", orjson.loads(event[6:]))


class TestOverHttp:
    @pytest.mark.parametrize(
        ("method", "path", "status", "code"),
        [
            ("GET", "/nowhere", 404, "unknown_url"),
            ("GET", "/refuses", 429, "queue_full"),
            ("DELETE", "/refuses", 405, "method_not_allowed"),
            ("GET", "/breaks", 500, "internal_error"),
        ],
    )
    async def test_every_error_leaves_in_openai_s_shape(self, method: str, path: str, status: int, code: str) -> None:
        async with client_of(app()) as client:
            answer = await client.request(method, path)
        assert answer.status_code == status
        assert_is("ErrorResponse", answer.json())
        assert answer.json()["error"]["code"] == code
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-request-id"]

    async def test_a_broken_handler_tells_nothing_of_its_inside(self) -> None:
        async with client_of(app()) as client:
            answer = await client.get("/breaks")
        assert "secret" not in answer.text
        assert "Traceback" not in answer.text

    async def test_a_refusal_that_will_pass_says_when_to_come_again(self) -> None:
        async with client_of(app()) as client:
            assert (await client.get("/refuses")).headers["retry-after"] == "7"


class TestModels:
    async def test_the_list_of_models_has_openai_s_shape(self) -> None:
        async with client_of(app()) as client:
            answer = await client.get("/v1/models")
        assert_is("ListModelsResponse", answer.json())
        assert [model["id"] for model in answer.json()["data"]] == ["gpt-4o", "org/big:70b", "tiny:1b"]

    async def test_an_empty_grid_has_an_empty_list(self) -> None:
        async with client_of(app(models={})) as client:
            assert_is("ListModelsResponse", (await client.get("/v1/models")).json())

    @pytest.mark.parametrize(
        ("asked", "told"),
        [
            ("tiny:1b", "tiny:1b"),
            ("org/big:70b", "org/big:70b"),
            ("gpt-4o", "gpt-4o"),
            ("TINY:1B", "tiny:1b"),
            ("claude-3-opus", "tiny:1b"),
        ],
    )
    async def test_one_model_can_be_asked_for_slashes_and_all(self, asked: str, told: str) -> None:
        async with client_of(app()) as client:
            answer = await client.get(f"/v1/models/{asked}")
        assert_is("Model", answer.json())
        assert (answer.json()["id"], answer.json()["created"]) == (told, 1_700_000_000)

    async def test_a_key_sees_models_and_aliases_that_it_names(self) -> None:
        for allowed, seen in [
            (["tiny:1b"], ["gpt-4o", "tiny:1b"]),
            (["gpt-4o"], ["gpt-4o"]),
            (["org/*"], ["org/big:70b"]),
        ]:
            key = ClientKey("0" * 64, "k", 0, models=tuple(allowed))
            async with client_of(app(caller=Caller(key))) as client:
                listed = (await client.get("/v1/models")).json()["data"]
                hidden = await client.get("/v1/models/org/big:70b")
            assert [model["id"] for model in listed] == seen
            assert hidden.status_code == (200 if "org/big:70b" in seen else 404)

    async def test_anthropic_s_clients_hear_them_in_its_form(self) -> None:
        headers = {"anthropic-version": "2023-06-01"}
        async with client_of(app()) as client:
            listed = (await client.get("/v1/models", headers=headers)).json()
            one = (await client.get("/v1/models/gpt-4o", headers=headers)).json()
        assert (listed["first_id"], listed["last_id"], listed["has_more"]) == ("gpt-4o", "tiny:1b", False)
        assert listed["data"][0] == one
        assert (one["type"], one["id"], one["created_at"]) == ("model", "gpt-4o", "2023-11-14T22:13:20Z")

    async def test_an_unknown_model_is_an_error_of_openai_s_code(self) -> None:
        async with client_of(app()) as client:
            answer = await client.get("/v1/models/gpt-9")
        assert answer.status_code == 404
        assert_is("ErrorResponse", answer.json())
        assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == ("model_not_found", "model")


ALIASES = {"gpt-4o": "Tiny:1b", "gone": "nobody", "claude-*": "tiny:1b"}
MODELS = {"tiny:1b": [1_700_000_001_999, 1_700_000_000_999], "org/big:70b": [1_700_000_000_000]}


class OpenDoor:
    """A gatekeeper that asks for nothing."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def client(self, _: object) -> Caller:
        return self._caller


def app(models: dict[str, list[int]] | None = None, caller: Caller = ANYONE) -> FastAPI:
    """The model routes over a picture of the grid, and two routes that fail."""
    listed = MODELS if models is None else models
    view = SimpleNamespace(
        models={ModelId(model): [SimpleNamespace(started_at=at) for at in times] for model, times in listed.items()}
    )
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(models_router(cast(RegistryView, view), cast(Gatekeeper, OpenDoor(caller)), ModelNames(ALIASES)))

    @app.get("/refuses")
    async def refuses() -> Any:
        raise errors.QueueFull("come again", retry_after_s=7)

    @app.get("/breaks")
    async def breaks() -> Any:
        raise ValueError("a secret of the inside")

    return app


def client_of(app: FastAPI) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://hub")
