"""What an engine may be asked, and what its refusals mean."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.endpoints import ENDPOINTS, Capability
from provider.errors import EngineFull, EngineRefused, ModelGone
from provider.protocol.engine import EngineStatus, refusal
from provider.protocol.failures import engine_error, read_failure

ABLE = EngineStatus("some", "http://some", capabilities=frozenset(Capability))


class TestEndpoints:
    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_what_an_engine_can_do_is_let_through(self, endpoint: str) -> None:
        assert refusal(endpoint, ABLE) is None

    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_what_it_cannot_do_is_worth_another_node_s_try(self, endpoint: str) -> None:
        lacking = replace(ABLE, capabilities=ABLE.capabilities - {ENDPOINTS[endpoint].needs})
        failure = refusal(endpoint, lacking)
        assert failure is not None
        assert (failure.status, failure.code, failure.retryable) == (501, "endpoint_not_supported", True)
        assert endpoint in failure.message

    @pytest.mark.parametrize(
        "endpoint",
        [
            "/api/delete",
            "/api/pull",
            "/api/create",
            "/api/tags",
            "/v1/models",
            "/props",
            "/v1/chat/completions/",
            "/v1/chat/completions?x=1",
            "/v1/../api/delete",
            "//api/chat",
            "/API/CHAT",
            "",
        ],
    )
    def test_nothing_else_reaches_any_engine(self, endpoint: str) -> None:
        failure = refusal(endpoint, ABLE)
        assert failure is not None
        assert (failure.status, failure.code, failure.retryable) == (404, "endpoint_not_allowed", False)

    @given(st.text())
    def test_only_the_listed_paths_are_let_through(self, endpoint: str) -> None:
        assert (refusal(endpoint, ABLE) is None) == (endpoint in ENDPOINTS)

    def test_a_path_without_an_end_makes_no_endless_message(self) -> None:
        failure = refusal("/x" * 10_000, ABLE)
        assert failure is not None
        assert len(failure.message) < 200


OUT_OF_MEMORY = [
    "model requires more system memory (9.9 GiB) than is available (7.6 GiB)",
    "llama runner process has terminated: cudaMalloc failed: out of memory",
    "llama runner exited, you may not have enough available memory to run this model",
    "CUDA error: out of memory",
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.78 GiB",
    "error loading model: unable to allocate CUDA0 buffer",
    "failed to allocate buffer for kv cache",
    "No available memory for the cache blocks. Try increasing `gpu_memory_utilization`",
    "Model loading was stopped due to insufficient system resources.",
    "Not enough resources to load the model with the current settings",
]


class TestMemory:
    @pytest.mark.parametrize("words", OUT_OF_MEMORY)
    @pytest.mark.parametrize("status", [500, 503])
    def test_want_of_memory_is_no_failure_of_the_job(self, status: int, words: str) -> None:
        assert isinstance(engine_error(read_failure(status, orjson.dumps({"error": words}))), EngineFull)

    @pytest.mark.parametrize("status", [400, 404])
    def test_a_model_that_could_not_be_loaded_is_the_engine_s_trouble_under_any_status(self, status: int) -> None:
        words = 'Failed to load model "m". Error: Model loading was stopped due to insufficient system resources.'
        assert isinstance(engine_error(read_failure(status, orjson.dumps({"error": words}))), EngineFull)

    @pytest.mark.parametrize("words", OUT_OF_MEMORY)
    def test_a_client_cannot_have_a_bad_request_tried_for_ever(self, words: str) -> None:
        """A refusal may quote what was asked."""
        error = engine_error(read_failure(400, orjson.dumps({"error": f"invalid value: {words}"})))
        assert type(error) is EngineRefused

    @pytest.mark.parametrize("words", ["slot died", "the model has a bad memory", "context full", ""])
    def test_other_trouble_is_told_as_it_is(self, words: str) -> None:
        assert type(engine_error(read_failure(500, orjson.dumps({"error": words})))) is EngineRefused


class TestLostModels:
    @pytest.mark.parametrize(
        "error",
        [
            "model 'x' not found",
            'model "x" not found, try pulling it first',
            {"message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404},
            {"message": "nope", "code": "model_not_found"},
        ],
    )
    def test_a_model_that_the_engine_lost_may_be_at_another_node(self, error: object) -> None:
        lost = engine_error(read_failure(404, orjson.dumps({"error": error})))
        assert isinstance(lost, ModelGone)
        assert (lost.failure.status, lost.failure.code, lost.failure.retryable) == (404, "model_not_found", True)

    @pytest.mark.parametrize("status", [400, 404])
    @pytest.mark.parametrize(
        "words",
        [
            "No models loaded. Please load a model in the developer page or use the `lms load` command.",
            "Model is unloaded.",
            'Failed to load model "m". Error: unknown architecture',
        ],
    )
    def test_a_model_that_the_engine_cannot_load_may_be_at_another_node(self, status: int, words: str) -> None:
        lost = engine_error(read_failure(status, orjson.dumps({"error": {"message": words}})))
        assert isinstance(lost, ModelGone)
        assert lost.failure.retryable

    def test_a_refusal_that_speaks_of_models_is_the_client_s_own(self) -> None:
        words = "invalid value 'No models loaded': the model is not found in the request"
        assert type(engine_error(read_failure(400, orjson.dumps({"error": words})))) is EngineRefused

    @pytest.mark.parametrize("words", ["File Not Found", "404 page not found", "Not Found"])
    def test_another_404_is_the_client_s_own(self, words: str) -> None:
        error = engine_error(read_failure(404, orjson.dumps({"error": words})))
        assert isinstance(error, EngineRefused)
        assert not isinstance(error, ModelGone)
        assert (error.failure.code, error.failure.message, error.failure.retryable) == ("not_found", words, False)
