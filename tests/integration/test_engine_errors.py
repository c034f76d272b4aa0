"""What an engine does wrong reaches the client in OpenAI's shape, is tried again where that can be silent, and never
breaks what was said before it.
"""

from collections.abc import Iterator

import pytest

from tests.doubles.process import EngineProcess
from tests.doubles.reading import events_in, numbered
from tests.support import leftovers
from tests.support.call import CHAT, COMPLETIONS, Answer, post
from tests.support.grid import Chain, Grid, chat
from tests.support.processes import until

ATTEMPTS = 2
SETTINGS = {
    "GHUB_HUB_MAX_ATTEMPTS": str(ATTEMPTS),
    "GHUB_HUB_RETRY_AFTER_S": "7",
    "GHUB_PROVIDER_FIRST_TOKEN_TIMEOUT_S": "1",
    "GHUB_PROVIDER_ANSWER_TIMEOUT_S": "1",
}
PAGE = "<html><body><h1>502 Bad Gateway</h1><p>nginx/1.25</p></body></html>"


@pytest.fixture(scope="module")
def _chain(module_grid: Grid) -> Chain:
    return module_grid.chain(**SETTINGS)


@pytest.fixture
def chain(_chain: Chain, module_grid: Grid) -> Iterator[Chain]:
    """A chain whose requests are tried twice; after each test nothing is left of them."""
    _chain.engine.reset()
    yield _chain
    with module_grid.redis() as client:
        leftovers.until_at_rest(client, 5)
    assert _chain.engine.state()["open"] == 0


def completion(tokens: int = 16, *, stream: bool = True, model: str = "tiny:1b", **double: object) -> dict[str, object]:
    return {"model": model, "prompt": "hi", "max_tokens": tokens, "stream": stream, "double": double}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("double", "status", "code", "message"),
    [
        ({"status": 400}, 400, "invalid_request", "scripted failure 400"),
        ({"status": 404}, 404, "not_found", "scripted failure 404"),
        ({"status": 422, "error_body": '{"detail": [{"loc": ["body"], "msg": "bad"}]}'}, 422, "invalid_request", "bad"),
        ({"status": 400, "error_body": '{"detail": "no such tool"}'}, 400, "invalid_request", "no such tool"),
        (
            {"status": 400, "error_body": '{"error": {"message": "too long", "code": "context_length_exceeded"}}'},
            400,
            "context_length_exceeded",
            "too long",
        ),
        ({"status": 413, "error_body": ""}, 413, "request_too_large", "413"),
    ],
)
def test_an_error_of_the_client_is_told_as_it_is_and_not_tried_again(
    chain: Chain, *, double: dict[str, object], status: int, code: str, message: str, stream: bool
) -> None:
    answer = post(chain.hub, chat(stream=stream, double=double))
    assert (answer.status, answer.error["code"]) == (status, code)
    assert message in answer.error["message"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-ghub-node"] == chain.node
    assert chain.engine.state()["started"] == 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("double", "status", "code"),
    [
        ({"status": 500}, 502, "engine_error"),
        ({"status": 503}, 503, "engine_unavailable"),
        ({"status": 429}, 429, "engine_overloaded"),
        ({"status": 401}, 502, "engine_unauthorized"),
        ({"status": 502, "error_body": PAGE}, 502, "engine_error"),
        ({"status": 500, "error_body": "\x00\x01 no json"}, 502, "engine_error"),
        ({"status": 500, "error_body": "[1, 2"}, 502, "engine_error"),
        ({"status": 500, "error_body": '["odd"]'}, 502, "engine_error"),
    ],
)
def test_an_error_of_the_engine_is_tried_again_and_then_told(
    chain: Chain, *, double: dict[str, object], status: int, code: str, stream: bool
) -> None:
    answer = post(chain.hub, chat(stream=stream, double=double))
    assert (answer.status, answer.error["code"]) == (status, code)
    assert "<" not in answer.error["message"], "a proxy's page is no message"
    assert ("retry-after" in answer.headers) == (status in {429, 503})
    assert answer.headers["x-ghub-attempt"] == str(ATTEMPTS)
    assert chain.engine.state()["started"] == ATTEMPTS


@pytest.mark.parametrize(
    ("double", "code"),
    [
        ({"cut_after": 5, "delay_ms": 10}, "engine_disconnected"),
        ({"error_event_after": 5}, "engine_error"),
        ({"bad_json": True}, "engine_bad_answer"),
    ],
)
def test_a_whole_answer_that_breaks_is_tried_again_and_then_told(
    chain: Chain, double: dict[str, object], code: str
) -> None:
    answer = post(chain.hub, chat(double=double))
    assert (answer.status, answer.error["code"]) == (502, code)
    assert chain.engine.state()["started"] == ATTEMPTS


@pytest.mark.parametrize(
    ("double", "code"), [({"cut_after": 0}, "engine_disconnected"), ({"error_event_after": 0}, "engine_error")]
)
def test_a_stream_that_breaks_before_its_first_event_keeps_a_true_status(
    chain: Chain, double: dict[str, object], code: str
) -> None:
    answer = post(chain.hub, completion(**double), path=COMPLETIONS)
    assert (answer.status, answer.error["code"]) == (502, code)
    assert chain.engine.state()["started"] == ATTEMPTS


BREAKS: list[tuple[dict[str, object], str]] = [
    ({"cut_after": 5}, "engine_disconnected"),
    ({"error_event_after": 5}, "engine_error"),
    ({"error_event_after": 5, "close_without_done": True}, "engine_error"),
    ({"error_event_after": 5, "crlf": True, "per_write": 2}, "engine_error"),
    ({"error_event_after": 5, "split_bytes": 3}, "engine_error"),
]


@pytest.mark.parametrize(("double", "code"), BREAKS)
def test_a_chat_that_breaks_later_ends_with_an_error_event_after_all_that_was_said(
    chain: Chain, double: dict[str, object], code: str
) -> None:
    """Engines of this kind do not go on with a chat that has begun."""
    double = {"delay_ms": 20, **double}  # the first tokens are on their way when it breaks
    answer = post(chain.hub, chat(stream=True, double=double), path=CHAT)
    assert answer.status == 200
    assert answer.said == numbered(0, 5)
    assert answer.error["code"] == code
    assert answer.is_ended_once
    assert chain.engine.state()["started"] == 1


@pytest.mark.parametrize(("double", "code"), BREAKS)
def test_a_completion_that_breaks_later_is_gone_on_with_until_it_was_tried_too_often(
    chain: Chain, double: dict[str, object], code: str
) -> None:
    """Attempts that bring something count half: six of five tokens each, and then it is over."""
    double = {"delay_ms": 20, **double}
    answer = post(chain.hub, completion(tokens=100, **double), path=COMPLETIONS)
    assert answer.status == 200
    assert answer.said == numbered(0, 2 * ATTEMPTS * 5)
    assert answer.error["code"] == code
    assert answer.is_ended_once
    assert chain.engine.state()["started"] == 2 * ATTEMPTS


@pytest.mark.parametrize(
    "double",
    [
        {"close_without_done": True},
        {"crlf": True},
        {"crlf": True, "close_without_done": True},
        {"split_bytes": 1},
        {"split_bytes": 7, "crlf": True},
        {"per_write": 20},
        {"per_write": 200, "comments": True},
        {"comments": True},
        {"comments": True, "crlf": True, "split_bytes": 5},
        {"event_bytes": 300_000},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_any_shape_of_stream_arrives_intact_and_ends_once(chain: Chain, double: dict[str, object], path: str) -> None:
    tokens = 40
    body = completion(tokens, **double) if path == COMPLETIONS else chat(tokens=tokens, stream=True, double=double)
    answer = post(chain.hub, body, path=path)
    assert answer.said == numbered(0, tokens)
    assert answer.is_ended_once
    assert "error" not in answer.text


def test_usage_comes_before_the_end_and_into_the_requests_hash(chain: Chain, module_grid: Grid) -> None:
    body = chat("three words here", tokens=9, stream=True, stream_options={"include_usage": True})
    answer = post(chain.hub, body)
    last = events_in(answer.text)[-1]
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 9)
    assert answer.is_ended_once
    key = f"ghub:request:{answer.headers['x-request-id']}"
    with module_grid.redis() as client:
        until(lambda: client.hget(key, "status") == "done", 5, lambda: client.hgetall(key))
        assert client.hmget(key, "prompt_tokens", "completion_tokens", "attempt") == ["3", "9", "1"]


@pytest.fixture(scope="module")
def pair(module_grid: Grid, _chain: Chain) -> tuple[EngineProcess, EngineProcess]:
    """Two nodes of one model; a test makes the first one's engine fail."""
    failing, well = module_grid.engine("pair:1b"), module_grid.engine("pair:1b")
    for name, engine in (("failing", failing), ("well", well)):
        module_grid.provider(engine.url, name, wait=False, **SETTINGS)
    for name in ("failing", "well"):
        module_grid.wait_for_node(name)
    module_grid.wait_for_model(_chain.hub, "pair:1b")
    return failing, well


FAULTS_BEFORE_THE_FIRST_TOKEN: list[dict[str, object]] = [
    {"status": 500},
    {"status": 503},
    {"status": 429},
    {"error_body": PAGE},
    {"cut_after": 0, "prefill_ms": 20},
    {"error_event_after": 0},
    {"hang": True},
]


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        *((kind, fault) for kind in ("whole", "stream") for fault in FAULTS_BEFORE_THE_FIRST_TOKEN),
        ("whole", {"bad_json": True}),  # a garbled event of a stream is relayed as it is
    ],
    ids=str,
)
def test_a_failure_before_the_first_token_is_cured_by_another_node_unheard(
    chain: Chain, pair: tuple[EngineProcess, EngineProcess], fault: dict[str, object], kind: str
) -> None:
    failing, _ = pair
    failing.configure(**fault)
    failing.reset()
    answers: list[Answer] = []

    def was_retried() -> bool:
        body = completion(5, stream=kind == "stream", model="pair:1b")
        answers.append(post(chain.hub, body, path=COMPLETIONS))
        # A job that it gives back while it looks at its engine is a second attempt too, but of no failure.
        return answers[-1].headers["x-ghub-attempt"] == "2" and failing.state()["started"]

    until(was_retried, 10, "the failing node never got the first attempt")
    failing.configure()
    assert [answer.said for answer in answers] == [numbered(0, 5)] * len(answers)
    assert answers[-1].headers["x-ghub-node"] == "well"
    assert failing.state()["started"] == 1


def test_a_chat_stream_cut_before_its_first_token_is_cured_by_another_node_unheard(
    chain: Chain, pair: tuple[EngineProcess, EngineProcess]
) -> None:
    """A chat begins with an event that only says whose turn it is: nothing in it is worth an error."""
    failing, _ = pair
    failing.configure(cut_after=0)
    failing.reset()
    answers: list[Answer] = []

    def was_hit() -> bool:
        answers.append(post(chain.hub, chat(model="pair:1b", tokens=5, stream=True)))
        return bool(failing.state()["started"])

    until(was_hit, 10, "the failing node never got the first attempt")
    failing.configure()
    assert answers[-1].said == numbered(0, 5)
    assert answers[-1].is_ended_once
