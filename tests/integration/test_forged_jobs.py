"""Only who holds the signing key may ask engines to work, and only on paths that generate."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import uuid4

import orjson
import pytest
import redis
from pydantic import SecretStr

from common.signing import SigningKeys
from common.types import ModelId, RequestId
from common.wire import Job
from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import CHAT, Call, post
from tests.support.grid import SIGNING_KEY, Chain, Grid, chat
from tests.support.processes import until

KEYS = SigningKeys.parse(SecretStr(SIGNING_KEY))
STRANGERS = SigningKeys.parse(SecretStr("test:fedcba9876543210"))
UNKNOWN = SigningKeys.parse(SecretStr("other:0123456789abcdef"))
SECRET_PROMPT = "the owner's secret"
LANE = "ghub:{jobs}:interactive:"
DEAD = "ghub:dead"
NEVER_MS = 2**42

Fields = dict[bytes, bytes]


@pytest.fixture(scope="module")
def _chain(module_grid: Grid) -> Chain:
    return module_grid.chain("tiny:1b", "other:1b", GHUB_HEARTBEAT_S="0.3")


@pytest.fixture
def chain(_chain: Chain, module_grid: Grid) -> Iterator[Chain]:
    """A chain of two models and no dead letters; after each test it still serves who holds the key."""
    _chain.engine.reset()
    with module_grid.redis() as client:
        client.delete(DEAD)
    yield _chain
    assert post(_chain.hub, chat(tokens=3)).said == numbered(0, 3)
    with module_grid.redis() as client:
        leftovers.until_at_rest(client, 3)


def _job(*, model: str = "tiny:1b", endpoint: str = CHAT, deadline_ms: int = NEVER_MS) -> Job:
    request = RequestId(uuid4().hex)
    body = orjson.dumps(chat(SECRET_PROMPT, model=model, tokens=5))
    reply = f"ghub:reply:{{forger}}:{request}"
    return Job(request, 1, ModelId(model), endpoint, stream=False, body=body, reply=reply, deadline_ms=deadline_ms)


def _add(client: redis.Redis, fields: Mapping[bytes, bytes], model: str = "tiny:1b") -> None:
    """Open the reply as a hub would, and put the job into its lane."""
    if b"reply" in fields:
        client.xadd(fields[b"reply"].decode(), {"open": "1"}, id="0-1")
        client.pexpire(fields[b"reply"].decode(), 60_000)
    client.xadd(LANE + model, {**fields})


def _now_ms(client: redis.Redis) -> int:
    seconds, micros = client.time()
    return int(seconds * 1000 + micros / 1000)


def _dead(client: redis.Redis) -> list[dict[str, str]]:
    return [fields for _, fields in client.xrange(DEAD)]


def _answer(client: redis.Redis, job: Job) -> dict[str, str]:
    """Everything that was written into a reply."""
    return {name: value for _, fields in client.xrange(job.reply) for name, value in fields.items()}


def _unsigned(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if name != b"sig"}


def _wrong(fields: Fields) -> Fields:
    key, _, digest = fields[b"sig"].partition(b":")
    return {**fields, b"sig": key + b":" + digest[::-1]}


def _with(name: str, value: str) -> Callable[[Fields], Fields]:
    return lambda fields: {**fields, name.encode(): value.encode()}


def _signed_by(keys: SigningKeys) -> Callable[[Fields], Fields]:
    return lambda fields: Job.from_fields(fields).signed(keys).to_fields()


def test_a_job_signed_as_documented_runs(chain: Chain, module_grid: Grid) -> None:
    """What is forged below is this very job, but for one field."""
    job = _job().signed(KEYS)
    with module_grid.redis() as client:
        _add(client, job.to_fields())
        until(lambda: "end" in _answer(client, job), 5, lambda: _answer(client, job))
        assert numbered(0, 5) in _answer(client, job)["data"]
        assert _dead(client) == []
    assert chain.engine.state()["started"] == 1


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(_unsigned, id="no signature"),
        pytest.param(_with("sig", ""), id="an empty signature"),
        pytest.param(_wrong, id="a wrong signature"),
        pytest.param(_with("sig", "test:ünsinn"), id="a signature that is no hex"),
        pytest.param(_with("sig", "test:"), id="a key id without a signature"),
        pytest.param(_signed_by(STRANGERS), id="another secret under a known id"),
        pytest.param(_signed_by(UNKNOWN), id="the secret under an unknown id"),
        pytest.param(_with("body", '{"model": "tiny:1b", "messages": []}'), id="another body"),
        pytest.param(_with("model", "other:1b"), id="another model"),
        pytest.param(_with("reply", "ghub:reply:{thief}:0123"), id="another reply"),
        pytest.param(_with("endpoint", "/v1/completions"), id="another endpoint"),
        pytest.param(_with("deadline", str(NEVER_MS + 1)), id="another deadline"),
        pytest.param(_with("attempt", "2"), id="another attempt"),
        pytest.param(_with("stream", "1"), id="streamed"),
        pytest.param(_with("trace", "00-1-1-01"), id="another trace"),
        pytest.param(_with("v", "2"), id="another version"),
        pytest.param(_with("attempt", "one"), id="no number"),
        pytest.param(lambda _: {b"hello": b"world"}, id="no job at all"),
    ],
)
def test_a_forged_job_never_reaches_the_engine(
    chain: Chain, module_grid: Grid, forge: Callable[[Fields], Fields]
) -> None:
    job = _job().signed(KEYS)
    forged = forge(job.to_fields())
    with module_grid.redis() as client:
        _add(client, forged)
        until(lambda: _dead(client), 5, lambda: leftovers.told(client))
        (buried,) = _dead(client)
        assert buried["reason"]
        assert not {"body", "sig"} & set(buried)
        assert SECRET_PROMPT not in str(buried)
        leftovers.until_at_rest(client, 3)
        until(lambda: client.ttl(DEAD) > 0, 5, "a hub says how long it lives")
        assert _answer(client, job) in ({"open": "1"}, {}), "who forges gets no answer"
    assert chain.engine.state()["requests"] == []
    log = module_grid.providers[chain.node].tail()
    assert "job_refused" in log
    assert SECRET_PROMPT not in log


FORGERIES: dict[str, Callable[[Fields, Fields, bytes], Fields]] = {
    "removed": lambda job, _, name: {key: value for key, value in job.items() if key != name},
    "emptied": lambda job, _, name: {**job, name: b""},
    "longer": lambda job, _, name: {**job, name: job[name] + b"0"},
    "shorter": lambda job, _, name: {**job, name: job[name][:-1]},
    "begins differently": lambda job, _, name: {**job, name: bytes([job[name][0] ^ 1]) + job[name][1:]},
    "in another form": lambda job, _, name: {**job, name: b"0" + job[name]},
    "with a blank": lambda job, _, name: {**job, name: b" " + job[name]},
    "of another job": lambda job, other, name: {**job, name: other[name]},
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_no_field_of_a_job_can_be_altered(chain: Chain, module_grid: Grid, forgery: str) -> None:
    with module_grid.redis() as client:
        for count, name in enumerate(_two_jobs()[0], start=1):
            _add(client, FORGERIES[forgery](*_two_jobs(), name))
            until(lambda count=count: len(_dead(client)) == count, 5, f"{name.decode()} {forgery} is refused")
        leftovers.until_at_rest(client, 3)
    assert chain.engine.state()["requests"] == []


def _two_jobs() -> list[Fields]:
    """A job for the lane it is put in, and one that differs in every field."""
    first, second = _job(), _job(model="other:1b", endpoint="/v1/completions", deadline_ms=NEVER_MS + 1)
    first = replace(first, trace="00-1-1-01")
    second = replace(second, attempt=2, stream=True, trace="00-2-2-01")
    return [first.signed(KEYS).to_fields(), second.signed(KEYS).to_fields() | {b"v": b"2"}]


def test_a_recorded_job_that_is_played_again_after_its_deadline_is_not_run(chain: Chain, module_grid: Grid) -> None:
    with module_grid.redis() as client:
        deadline_ms = _now_ms(client) + 1500
        job = _job(deadline_ms=deadline_ms).signed(KEYS)
        _add(client, job.to_fields())
        until(lambda: "end" in _answer(client, job), 5, lambda: _answer(client, job))
        until(lambda: _now_ms(client) > deadline_ms, 5, "its deadline passes")
        client.delete(job.reply)
        _add(client, job.to_fields())
        leftovers.until_at_rest(client, 3)
        assert _answer(client, job) == {"open": "1"}
    assert chain.engine.state()["started"] == 1


def test_a_job_in_the_lane_of_another_model_is_refused(chain: Chain, module_grid: Grid) -> None:
    """So that who may publish for one model cannot have another one run."""
    with module_grid.redis() as client:
        _add(client, _job(model="other:1b").signed(KEYS).to_fields(), model="tiny:1b")
        until(lambda: _dead(client), 5, lambda: leftovers.told(client))
    assert chain.engine.state()["requests"] == []


def test_a_job_past_its_deadline_is_taken_off_unseen(chain: Chain, module_grid: Grid) -> None:
    with module_grid.redis() as client:
        seconds, _ = client.time()
        job = _job(deadline_ms=(seconds - 1) * 1000).signed(KEYS)
        _add(client, job.to_fields())
        assert leftovers.entries_added(client) > 0
        leftovers.until_at_rest(client, 3)
        assert _dead(client) == []
        assert _answer(client, job) == {"open": "1"}
    assert chain.engine.state()["requests"] == []


@pytest.mark.parametrize("double", [{}, {"delay_ms": 30}], ids=["after its end", "while it runs"])
def test_a_recorded_job_that_is_played_again_is_not_run_twice(
    chain: Chain, module_grid: Grid, double: dict[str, object]
) -> None:
    recorded: list[Fields] = []
    with module_grid.redis() as client, redis.Redis(port=module_grid.broker.port, protocol=2) as raw:
        holders = [Call(chain.hub, chat(tokens=500, stream=True, double={"delay_ms": 30})) for _ in range(4)]
        until(lambda: chain.engine.state()["open"] == 4, 5, chain.engine.state)
        call = Call(chain.hub, chat(tokens=40, stream=True, double=double))
        until(lambda: leftovers.jobs(client) == 5, 5, lambda: leftovers.told(client))
        for _, fields in raw.xrevrange(LANE + "tiny:1b", count=1):
            recorded.append(fields)
        for holder in holders:
            holder.drop()
        call.wait_for("t3 ")
        if not double:
            call.wait_for("[DONE]")
        raw.xadd(LANE + "tiny:1b", {**recorded[0]})
        answer = call.finish()
        assert answer.said == numbered(0, 40)
        assert answer.is_ended_once
        leftovers.until_at_rest(client, 3)
    assert chain.engine.state()["started"] == 5


class _Recorder(BaseHTTPRequestHandler):
    """An engine that lists one model and notes each path it is asked for."""

    asked: list[str]

    def _serve(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = orjson.dumps({"object": "list", "data": [{"id": "walled:1b", "object": "model"}]})
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - so the base class wants it

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def walled(module_grid: Grid, _chain: Chain) -> Iterator[list[str]]:
    """What the engine of a further node is asked for; its model is walled:1b."""
    asked: list[str] = []
    handler = type("Recorder", (_Recorder,), {"asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    node = module_grid.provider(f"http://127.0.0.1:{server.server_port}", "walled", GHUB_HEARTBEAT_S="0.3")
    module_grid.wait_for_model(_chain.hub, "walled:1b")
    yield asked
    module_grid.providers[node].stop()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    "endpoint",
    [
        "/api/delete",
        "/v1/models",
        "/v1/chat/completions/../../../api/delete",
        "/v1/chat/completions?x=1",
        "//v1/chat/completions",
        "/V1/chat/completions",
        "/v1/chat/completions/",
        ".evil.example/v1/chat/completions",
        "",
    ],
)
def test_a_path_that_generates_nothing_is_refused_though_well_signed(
    chain: Chain, module_grid: Grid, walled: list[str], endpoint: str
) -> None:
    del chain
    job = _job(model="walled:1b", endpoint=endpoint).signed(KEYS)
    with module_grid.redis() as client:
        _add(client, job.to_fields(), model="walled:1b")
        until(lambda: "error" in _answer(client, job), 5, lambda: _answer(client, job))
        error = orjson.loads(_answer(client, job)["error"])
        assert (error["status"], error["code"], error["retryable"]) == (404, "endpoint_not_allowed", False)
        leftovers.until_at_rest(client, 3)
    assert {one for one in walled if not one.startswith("GET ")} == set()


def test_a_path_that_generates_reaches_the_same_engine(chain: Chain, module_grid: Grid, walled: list[str]) -> None:
    del chain
    job = _job(model="walled:1b").signed(KEYS)
    with module_grid.redis() as client:
        _add(client, job.to_fields(), model="walled:1b")
        until(lambda: "end" in _answer(client, job), 5, lambda: _answer(client, job))
    assert walled.count(f"POST {CHAT}") == 1
