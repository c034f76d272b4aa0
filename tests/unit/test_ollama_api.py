"""What Ollama's clients hear from a hub beside the answers of engines."""

from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import orjson
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from common.errors import BrokerUnavailable
from common.records.credentials import ClientKey
from common.records.registry import Registry
from common.report import ModelReport
from common.types import ModelId
from common.wire import Failure
from hub.access.gatekeeper import ANYONE, Caller, Gatekeeper
from hub.api.bodies import check_body
from hub.api.errors import install_error_handlers
from hub.api.ollama.bodies import ChatBody, EmbedBody, GenerateBody
from hub.api.ollama.catalog import Catalog
from hub.api.ollama.models import ollama_models_router
from hub.api.ollama.shape import OLLAMA, OLLAMA_CHAT, OLLAMA_GENERATE, OLLAMA_PATHS
from hub.api.shape import Waiting
from hub.api.shapes import shape_of
from hub.errors import AttemptFailed, RequestFailed, Unauthorized
from hub.grid.model_names import ModelNames
from hub.grid.registry_view import RegistryView
from hub.settings import HubSettings
from provider.engines.detect import FoundEngine, connect_engine
from provider.errors import EngineDown
from provider.settings import EngineKind
from tests.unit.engine_server import OLLAMA as OLLAMA_SERVER
from tests.unit.engine_server import looking_at, serving

TEXTS = st.text(max_size=30)
FAILURES = st.builds(Failure, st.integers(400, 599), TEXTS, TEXTS, st.booleans(), TEXTS, st.none() | TEXTS)
LOADED = {"models": ("tiny:1b",), "loaded": ("tiny:1b",), "engine": {"capabilities": ["chat", "embeddings"]}}
IDLE = {"models": ("embed", "org/big:70b"), "loaded": (), "engine": {"capabilities": ["embeddings"]}}
REPORTS = (
    ModelReport(id="tiny:1b"),
    ModelReport(id="tiny:1b", size_bytes=7, digest="abc", loaded=True),
    ModelReport(id="embed", size_bytes=5),
)


class TestShape:
    @pytest.mark.parametrize("shape", [OLLAMA, OLLAMA_CHAT, OLLAMA_GENERATE])
    @given(failure=FAILURES)
    def test_whatever_goes_wrong_is_one_sentence(self, shape: Any, failure: Failure) -> None:
        error = AttemptFailed(failure)
        assert shape.error_fields(error) == {"error": failure.message}
        event = shape.error_event(error)
        assert event.count(b"\n") == 1
        assert event.endswith(b"\n")
        assert orjson.loads(event) == {"error": failure.message}

    @pytest.mark.parametrize(
        ("shape", "nothing"),
        [
            (OLLAMA_CHAT, {"message": {"role": "assistant", "content": ""}}),
            (OLLAMA_GENERATE, {"response": ""}),
        ],
    )
    def test_who_waits_hears_a_line_of_the_answer_without_a_word(self, shape: Any, nothing: dict[str, Any]) -> None:
        line = shape.keep_alive(Waiting(ModelId("m"), "queued, 3 ahead"))
        assert line.count(b"\n") == 1
        assert line.endswith(b"\n")
        said = orjson.loads(line)
        assert datetime.fromisoformat(said.pop("created_at")).tzinfo is not None
        assert said == {"model": "m", "done": False, **nothing}

    def test_nothing_is_added_to_the_end_of_a_stream(self) -> None:
        assert OLLAMA_CHAT.stream_end == b""

    @pytest.mark.parametrize("path", [*OLLAMA_PATHS, "/api/blobs/sha256:0"])
    def test_errors_under_its_paths_have_its_shape(self, path: str) -> None:
        assert shape_of(path).error_fields(RequestFailed("no")) == {"error": "no"}

    @pytest.mark.parametrize("path", ["/api/registry", "/api/provider/health", "/api/chats", "/v1/chat/completions"])
    def test_and_those_under_other_paths_have_not(self, path: str) -> None:
        assert shape_of(path) is not OLLAMA


class TestModels:
    async def test_the_list_tells_what_is_known_and_nothing_else(self) -> None:
        models = (await ask("GET", "/api/tags")).json()["models"]
        assert [(one["name"], one["size"], one["digest"]) for one in models] == [
            ("embed:latest", 5, ""),
            ("gpt:latest", 7, "abc"),
            ("org/big:70b", 0, ""),
            ("tiny:1b", 7, "abc"),
        ]
        for one in models:
            assert one["model"] == one["name"]
            assert datetime.fromisoformat(one["modified_at"]).year == 1
            assert one["details"]["family"] == ""
            assert one["details"]["families"] == []

    async def test_whatever_is_listed_is_found_under_that_name(self) -> None:
        async with client_of() as client:
            for one in (await client.get("/api/tags")).json()["models"]:
                assert (await client.post("/api/show", json={"model": one["name"]})).status_code == 200

    async def test_only_what_is_in_memory_runs(self) -> None:
        models = (await ask("GET", "/api/ps")).json()["models"]
        assert [one["name"] for one in models] == ["gpt:latest", "tiny:1b"]
        assert all(datetime.fromisoformat(one["expires_at"]).year == 1 for one in models)

    async def test_a_key_sees_its_own_models(self) -> None:
        key = Caller(ClientKey("0" * 64, "k", 0, models=("tiny:*",)))
        models = (await ask("GET", "/api/tags", caller=key)).json()["models"]
        assert [one["name"] for one in models] == ["gpt:latest", "tiny:1b"]
        hidden = await ask("POST", "/api/show", {"model": "embed"}, caller=key)
        assert hidden.status_code == 404

    @pytest.mark.parametrize(
        ("asked", "capabilities"),
        [
            ({"model": "tiny:1b"}, ["completion"]),
            ({"name": "TINY:1b"}, ["completion"]),
            ({"model": "gpt"}, ["completion"]),
            ({"model": "embed:latest", "verbose": True}, ["embedding"]),
        ],
        ids=str,
    )
    async def test_one_model_tells_what_it_is_for(self, asked: dict[str, Any], capabilities: list[str]) -> None:
        shown = (await ask("POST", "/api/show", asked)).json()
        assert shown["capabilities"] == capabilities
        assert shown["model_info"] == {}
        assert shown["details"]["format"] == ""

    async def test_a_model_that_nobody_serves_is_not_found(self) -> None:
        answer = await ask("POST", "/api/show", {"model": "nobody"})
        assert (answer.status_code, answer.json()) == (404, {"error": "model 'nobody' not found"})

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"model": 5}', b'{"model": ""}'])
    async def test_what_names_no_model_is_refused(self, body: bytes) -> None:
        answer = await ask("POST", "/api/show", body)
        assert answer.status_code == 400
        assert isinstance(answer.json()["error"], str)

    async def test_lists_do_without_sizes_while_the_broker_is_away(self) -> None:
        answer = await ask("GET", "/api/tags", registry=Reports(fails=True))
        assert {one["size"] for one in answer.json()["models"]} == {0}

    async def test_who_asks_all_the_time_does_not_ask_the_broker_each_time(self) -> None:
        registry = Reports()
        async with client_of(registry=registry) as client:
            for _ in range(5):
                await client.get("/api/tags")
        assert registry.reads == 1


class TestTheRest:
    @pytest.mark.parametrize("path", ["/api/version", "/api/tags", "/api/ps"])
    async def test_clients_find_somebody_there(self, path: str) -> None:
        assert (await ask("GET", path)).status_code == 200
        assert (await ask("HEAD", path)).status_code == 200

    async def test_the_version_is_one_that_clients_can_compare(self) -> None:
        version = (await ask("GET", "/api/version")).json()["version"]
        assert len([int(part) for part in version.split(".")]) == 3

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/api/pull"),
            ("POST", "/api/push"),
            ("POST", "/api/create"),
            ("POST", "/api/copy"),
            ("DELETE", "/api/delete"),
            ("HEAD", "/api/blobs/sha256:0"),
            ("POST", "/api/blobs/sha256:0"),
        ],
    )
    async def test_nobody_changes_the_grid_s_models(self, method: str, path: str) -> None:
        answer = await ask(method, path)
        assert answer.status_code == 403
        assert method == "HEAD" or "does not let clients change" in answer.json()["error"]

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/api/tags"),
            ("GET", "/api/ps"),
            ("GET", "/api/version"),
            ("POST", "/api/show"),
            ("POST", "/api/pull"),
        ],
    )
    async def test_strangers_learn_nothing(self, method: str, path: str) -> None:
        answer = await ask(method, path, caller=None)
        assert (answer.status_code, answer.json()) == (401, {"error": "who are you?"})

    async def test_whoever_looks_for_an_engine_sees_that_this_is_a_hub(self) -> None:
        told = (await ask("GET", "/api/version")).json()
        async with serving(OLLAMA_SERVER | {"/api/version": told}) as server:
            engine = connect_engine(FoundEngine(EngineKind.OLLAMA, server.url), looking_at(server.url))
            with pytest.raises(EngineDown, match="is a hub"):
                await engine.status()
            await engine.aclose()


class Door:
    """A gatekeeper that lets in one caller, or nobody."""

    def __init__(self, caller: Caller | None) -> None:
        self._caller = caller

    async def client(self, _: object) -> Caller:
        if self._caller is None:
            raise Unauthorized("who are you?")
        return self._caller


class Reports:
    """The part of the registry that lists read."""

    def __init__(self, *, fails: bool = False) -> None:
        self._fails = fails
        self.reads = 0

    async def reports(self) -> dict[str, Any]:
        self.reads += 1
        if self._fails:
            raise BrokerUnavailable("away")
        return {f"node-{n}": SimpleNamespace(models=(report,)) for n, report in enumerate(REPORTS)}


def client_of(caller: Caller | None = ANYONE, registry: Reports | None = None) -> httpx2.AsyncClient:
    nodes = [SimpleNamespace(**fields) for fields in (LOADED, IDLE)]
    models = {ModelId(name): [node for node in nodes if name in node.models] for node in nodes for name in node.models}
    view = SimpleNamespace(models=models, names=ModelNames({"gpt": "tiny:1b"}))
    catalog = Catalog(cast(RegistryView, view), cast(Registry, registry or Reports()))
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(ollama_models_router(catalog, cast(Gatekeeper, Door(caller)), HubSettings()))
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://hub")


async def ask(
    method: str,
    path: str,
    body: dict[str, Any] | bytes = b"",
    *,
    caller: Caller | None = ANYONE,
    registry: Reports | None = None,
) -> httpx2.Response:
    async with client_of(caller, registry) as client:
        sent = orjson.dumps(body) if isinstance(body, dict) else body
        return await client.request(method, path, content=sent)


@pytest.mark.parametrize(("said", "wants"), [({}, True), ({"stream": None}, True), ({"stream": False}, False)])
def test_answers_are_streamed_unless_the_body_says_otherwise(said: dict[str, Any], wants: bool) -> None:
    for shape in (ChatBody, GenerateBody):
        assert check_body(shape, orjson.dumps({"model": "m", **said})).wants_stream is wants
    assert not check_body(EmbedBody, orjson.dumps({"model": "m", "stream": "?", **said})).wants_stream
