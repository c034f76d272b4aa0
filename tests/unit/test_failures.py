"""Engines' errors in all their shapes become one: a status, a string code, a sentence, and whether to try again."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.wire import Failure, ReplyEntry
from provider.protocol.failures import MAX_MESSAGE_CHARS, read_error_event, read_error_line, read_failure

LLAMACPP = {"error": {"code": 400, "message": "the request exceeds the context", "type": "exceed_context_size_error"}}
LLAMACPP_LOADING = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
VLLM = {
    "error": {"message": "max_tokens must be at least 1", "type": "BadRequestError", "param": "max_tokens", "code": 400}
}
VLLM_OLD = {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}
OPENAI = {"error": {"message": "Too long.", "type": "invalid_request_error", "param": "messages", "code": "too_long"}}
OLLAMA = {"error": "model 'x' not found"}
FASTAPI = {"detail": "Not Found"}
FASTAPI_LIST = {"detail": [{"loc": ["body", "n"], "msg": "Input should be a valid integer", "type": "int_type"}]}

CLIENTS_OWN = [status for status in range(400, 500) if status not in (401, 403, 408, 425, 429)]
ERROR_WORDS = st.sampled_from(["error", "message", "detail", "code", "type", "param", "object"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ERROR_WORDS, inner, max_size=4),
    max_leaves=8,
)
BODIES = st.binary(max_size=60) | st.text(max_size=60).map(str.encode) | JSON.map(orjson.dumps)


class TestShapes:
    @pytest.mark.parametrize(
        ("status", "body", "expected"),
        [
            (
                400,
                LLAMACPP,
                Failure(400, "invalid_request", "the request exceeds the context", type="exceed_context_size_error"),
            ),
            (
                503,
                LLAMACPP_LOADING,
                Failure(503, "engine_unavailable", "Loading model", retryable=True, type="unavailable_error"),
            ),
            (
                400,
                VLLM,
                Failure(
                    400,
                    "invalid_request",
                    "max_tokens must be at least 1",
                    type="BadRequestError",
                    param="max_tokens",
                ),
            ),
            (404, VLLM_OLD, Failure(404, "not_found", "The model `x` does not exist.", type="NotFoundError")),
            (
                400,
                OPENAI,
                Failure(400, "too_long", "Too long.", type="invalid_request_error", param="messages"),
            ),
            (404, OLLAMA, Failure(404, "not_found", "model 'x' not found", type="invalid_request_error")),
            (404, FASTAPI, Failure(404, "not_found", "Not Found", type="invalid_request_error")),
        ],
        ids=["llamacpp", "llamacpp-loading", "vllm", "vllm-old", "openai", "ollama", "fastapi"],
    )
    def test_an_engine_s_own_words_reach_the_client(self, status: int, body: object, expected: Failure) -> None:
        assert read_failure(status, orjson.dumps(body)) == expected

    def test_a_list_of_problems_is_told_whole(self) -> None:
        failure = read_failure(422, orjson.dumps(FASTAPI_LIST))
        assert (failure.status, failure.code) == (422, "invalid_request")
        assert "Input should be a valid integer" in failure.message

    def test_plain_text_is_the_message(self) -> None:
        assert read_failure(500, b" CUDA out of memory\n").message == "CUDA out of memory"

    @pytest.mark.parametrize("page", [b"<html><body>Bad Gateway</body></html>", b"\n <!DOCTYPE html>\n<p>nginx</p>"])
    def test_a_proxy_s_page_is_not_shown_to_anyone(self, page: bytes) -> None:
        assert read_failure(502, page) == Failure(
            502, "engine_error", "the engine answered 502", retryable=True, type="server_error"
        )

    @pytest.mark.parametrize("body", [b"", b"  ", b"null", b"{}", b"[]", b"17", b'{"error":null}', b'{"error":{}}'])
    def test_an_error_without_words_gets_a_sentence(self, body: bytes) -> None:
        failure = read_failure(500, body)
        assert (failure.status, failure.code, failure.retryable) == (502, "engine_error", True)
        assert failure.message.strip()

    def test_bytes_that_are_no_text_do_no_harm(self) -> None:
        assert read_failure(500, b"\xff\xfe boom").message.endswith("boom")

    @pytest.mark.parametrize("body", [b"x" * 10**6, orjson.dumps({"error": "x" * 10**6})])
    def test_a_long_message_is_cut(self, body: bytes) -> None:
        assert len(read_failure(500, body).message) == MAX_MESSAGE_CHARS


class TestMeaning:
    @given(st.sampled_from(CLIENTS_OWN), BODIES)
    def test_a_4xx_is_the_client_s_and_never_tried_again(self, status: int, body: bytes) -> None:
        failure = read_failure(status, body)
        assert (failure.status, failure.retryable) == (status, False)

    @given(st.sampled_from([401, 403]), BODIES)
    def test_a_quarrel_between_provider_and_engine_is_not_shown(self, status: int, body: bytes) -> None:
        failure = read_failure(status, body)
        assert (failure.status, failure.code, failure.retryable) == (502, "engine_unauthorized", True)
        assert failure.message == "the engine refused this provider's credentials"

    @given(st.sampled_from([408, 425, 429]) | st.integers(500, 599), BODIES)
    def test_trouble_of_the_engine_may_be_tried_elsewhere(self, status: int, body: bytes) -> None:
        failure = read_failure(status, body)
        assert failure.retryable
        assert failure.status == (status if status in (429, 503, 504) else 502)

    @given(st.integers(400, 599), BODIES)
    def test_a_client_always_gets_strings_and_a_sentence(self, status: int, body: bytes) -> None:
        failure = read_failure(status, body)
        assert all(type(part) is str and part for part in (failure.code, failure.message, failure.type))
        assert failure.param is None or isinstance(failure.param, str)
        assert 400 <= failure.status < 600
        assert len(failure.message) <= MAX_MESSAGE_CHARS
        entry = ReplyEntry(error=failure)
        assert ReplyEntry.from_fields(entry.to_fields()) == entry


class TestErrorEvents:
    @pytest.mark.parametrize(
        "event",
        [
            b'data: {"error":{"code":500,"message":"slot died","type":"server_error"}}\n\n',
            b'data:{"error":{"code":500,"message":"slot died","type":"server_error"}}\r\n\r\n',
            b'error: {"code":500,"message":"slot died","type":"server_error"}\n\n',
            b'event: error\ndata: {"error":{"code":500,"message":"slot died","type":"server_error"}}\n\n',
            b': ping\ndata: {"error":{"code":500,"message":"slot died","type":"server_error"}}\n\n',
            b'\ndata: {"error":{"code":500,"message":"slot died","type":"server_error"}}\n\n',
        ],
        ids=["llamacpp", "no-space-crlf", "llamacpp-old", "lm-studio", "after-a-comment", "after-half-a-crlf"],
    )
    def test_an_error_in_a_stream_is_recognised(self, event: bytes) -> None:
        assert read_error_event(event) == Failure(502, "engine_error", "slot died", retryable=True, type="server_error")

    @pytest.mark.parametrize(
        ("event", "status", "message"),
        [
            (
                b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n',
                503,
                "Overloaded",
            ),
            (
                b'event: error\ndata: {"type":"error","error":{"type":"invalid_request_error","message":"no"}}\n\n',
                400,
                "no",
            ),
            (
                b'event: error\ndata: {"type":"error","code":"server_error","message":"broke","param":null}\n\n',
                502,
                "broke",
            ),
            (
                b'data: {"type":"response.failed","response":{"error":{"code":"server_error","message":"broke"}}}\n\n',
                502,
                "broke",
            ),
            (
                b'data: {"type":"response.failed","response":{"status":"failed","error":null}}\n\n',
                502,
                "the engine's response failed",
            ),
            (b'data: {"object":"error","message":"broke","type":"InternalServerError","code":500}\n\n', 502, "broke"),
        ],
        ids=["messages", "messages-refused", "responses", "responses-failed", "responses-failed-unsaid", "vllm-old"],
    )
    def test_every_api_has_its_own_form(self, event: bytes, status: int, message: str) -> None:
        failure = read_error_event(event)
        assert failure is not None
        assert (failure.status, failure.message) == (status, message)

    @pytest.mark.parametrize(
        "event",
        [
            b'event: response.completed\ndata: {"type":"response.completed","response":{"error":null}}\n\n',
            b'data: {"type":"response.incomplete","response":{"error":null,"status":"incomplete"}}\n\n',
            b'data: {"type":"content_block_delta","delta":{"text":"error"}}\n\n',
        ],
    )
    def test_a_word_about_errors_is_none(self, event: bytes) -> None:
        assert read_error_event(event) is None

    def test_a_line_of_ollama_s_is_one(self) -> None:
        failure = read_error_line(b'{"error":"the model broke"}\n')
        assert failure is not None
        assert (failure.status, failure.message, failure.retryable) == (502, "the model broke", True)
        assert read_error_line(b'{"response":"error","done":false}\n') is None

    def test_its_code_is_its_status(self) -> None:
        failure = read_error_event(b'data: {"error":{"code":400,"message":"context full"}}\n\n')
        assert failure is not None
        assert (failure.status, failure.retryable, failure.message) == (400, False, "context full")

    @pytest.mark.parametrize("code", ["0", "200", "700", "-1", '"overloaded"', "null", "true", "1e99", "[]"])
    def test_a_code_that_is_no_error_status_is_taken_for_500(self, code: str) -> None:
        failure = read_error_event(f'data: {{"error":{{"code":{code},"message":"x"}}}}\n\n'.encode())
        assert failure is not None
        assert (failure.status, failure.retryable) == (502, True)

    def test_a_word_is_enough(self) -> None:
        failure = read_error_event(b'data: {"error":"out of memory"}\n\n')
        assert failure is not None
        assert failure.message == "out of memory"

    @pytest.mark.parametrize(
        "event",
        [
            b'data: {"choices":[{"delta":{"content":"an \\"error\\" in words"}}]}\n\n',
            b'data: {"choices":[],"error":null}\n\n',
            b"data: [DONE]\n\n",
            b'data: "error"\n\n',
            b"data: {broken\n\n",
            b": error\n\n",
            b"\n\n",
            b"",
        ],
    )
    def test_all_else_is_none(self, event: bytes) -> None:
        assert read_error_event(event) is None

    @given(BODIES)
    def test_any_bytes_are_survived(self, payload: bytes) -> None:
        for event in (payload, b"data: " + payload + b"\n\n", b"error: " + payload + b"\n\n"):
            failure = read_error_event(event)
            assert failure is None or (failure.code and failure.message)
