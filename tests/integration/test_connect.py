"""A front of all hubs: stock clients see unbroken answers, whatever becomes of the hubs behind it."""

import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.doubles.process import EngineProcess
from tests.doubles.reading import numbered
from tests.support import late, leftovers
from tests.support.call import Call, get, post
from tests.support.client_keys import AUTH, TestKey, wait_for_model
from tests.support.fronts import FrontProcess
from tests.support.grid import Grid, chat
from tests.support.ports import free_port
from tests.support.processes import until
from tests.support.resuming import RESUMABLE, Asked, cuts_of, ids_of, joined, resume
from tests.support.tls import Authority, ended_before

QUICK = {"GHUB_HEARTBEAT_S": "0.3", "GHUB_HUB_FIRST_COMMENT_S": "0.3", "GHUB_HUB_COMMENT_INTERVAL_S": "0.5"}
HASTY = {"GHUB_CONNECT_CHECK_INTERVAL_S": "0.3", "GHUB_CONNECT_RETRY_S": "10"}
SLOW = {"delay_ms": 10}
TOKENS = 200
TALK: list[Any] = [{"role": "user", "content": "count for me"}]
SLOTS = 24


@dataclass(frozen=True)
class Parts:
    """Two hubs, an engine behind them, and a front before them. Tests may end the second hub."""

    grid: Grid
    engine: EngineProcess
    hubs: list[str]
    front: FrontProcess

    @property
    def url(self) -> str:
        return self.front.url

    def end_one(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the second hub; a killed one is gone when this returns."""
        hub = self.grid.hubs[self.hubs[1]]
        hub.signal(number)
        if number is signal.SIGKILL:
            hub.wait(5)

    def both_carry(self, requests: int) -> None:
        """Wait until so many requests are under way, at both hubs."""
        hubs = {hub["url"]: hub["open_requests"] for hub in self.front.standing["hubs"]}
        assert sum(hubs.values()) == requests, hubs
        assert all(hubs.values()), hubs


@pytest.fixture(scope="module")
def _parts(module_grid: Grid) -> Iterator[Parts]:
    engine = module_grid.engine(kind="llamacpp", slots=SLOTS)
    hubs = [module_grid.hub(wait=False, GHUB_HUB_SHUTDOWN_TIMEOUT_S="0.3", **QUICK) for _ in range(2)]
    module_grid.provider(engine.url, GHUB_HEARTBEAT_S="0.3", GHUB_PROVIDER_SLOTS=str(SLOTS))
    front = FrontProcess(hubs, module_grid.folder, **HASTY)
    yield Parts(module_grid, engine, hubs, front)
    front.process.kill()


@pytest.fixture
def parts(_parts: Parts) -> Iterator[Parts]:
    """Before each test both hubs are there; after it the engine is free, and no job is left."""
    url = _parts.hubs[1]
    if not _parts.grid.hubs[url].is_running:
        _parts.grid.hub(url=url, wait=False, GHUB_HUB_SHUTDOWN_TIMEOUT_S="0.3", **QUICK)
    for hub in _parts.hubs:
        _parts.grid.wait_for_hub(hub)
        _parts.grid.wait_for_model(hub, "tiny:1b")
    until(lambda: _parts.front.ready_hubs == {*_parts.hubs}, 10, _parts.front.process.tail)
    _parts.engine.reset()
    _parts.engine.configure()
    yield _parts
    until(lambda: _parts.engine.state()["open"] == 0, 5, _parts.engine.state)
    with _parts.grid.redis() as client:
        leftovers.until_at_rest(client, 5)


@pytest.fixture(scope="module")
def guarded(_parts: Parts) -> str:
    """A hub that asks for keys."""
    hub = _parts.grid.hub(**QUICK, **AUTH)
    wait_for_model(_parts.grid, hub)
    return hub


@pytest.fixture
def make_front(tmp_path: Path) -> Iterator[Callable[..., FrontProcess]]:
    made: list[FrontProcess] = []

    def make(*hubs: str, **env: str) -> FrontProcess:
        made.append(FrontProcess(hubs, tmp_path, **{**HASTY, **env}))
        return made[-1]

    yield make
    for front in made:
        front.process.kill()


def _openai_stream(url: str) -> str:
    with late.openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=30) as client:
        chunks = client.chat.completions.create(model="tiny:1b", messages=TALK, max_tokens=TOKENS, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def _openai_whole(url: str) -> str:
    with late.openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=30) as client:
        said = client.completions.create(model="tiny:1b", prompt="count", max_tokens=TOKENS)
        return said.choices[0].text


def _openai_response(url: str) -> str:
    with late.openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=30) as client:
        events = client.responses.create(model="tiny:1b", input="count", max_output_tokens=TOKENS, stream=True)
        return "".join(event.delta for event in events if event.type == "response.output_text.delta")


def _anthropic_stream(url: str) -> str:
    with (
        late.anthropic.Anthropic(base_url=url, api_key="unused", max_retries=0, timeout=30) as client,
        client.messages.stream(model="tiny:1b", messages=TALK, max_tokens=TOKENS) as stream,
    ):
        return "".join(stream.text_stream)


def _ollama_chat(url: str) -> str:
    with late.ollama.Client(url, timeout=30) as client:
        lines = client.chat("tiny:1b", TALK, stream=True, options={"num_predict": TOKENS})
        return "".join(line.message.content or "" for line in lines)


def _ollama_generate(url: str) -> str:
    with late.ollama.Client(url, timeout=30) as client:
        lines = client.generate("tiny:1b", "go", stream=True, options={"num_predict": TOKENS})
        return "".join(line.response or "" for line in lines)


def _folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


CLIENTS = (_openai_stream, _openai_whole, _openai_response, _anthropic_stream, _ollama_chat, _ollama_generate)


class TestAHubIsLost:
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_stock_clients_of_every_api_notice_nothing(self, parts: Parts, number: signal.Signals) -> None:
        for ask in CLIENTS:  # the first use of an SDK takes its time
            assert ask(parts.url) == numbered(0, TOKENS), ask.__name__
        parts.engine.reset()
        asked = CLIENTS * 2
        parts.engine.configure(delay_ms=15)
        with ThreadPoolExecutor(len(asked)) as threads:
            told = [threads.submit(ask, parts.url) for ask in asked]
            until(lambda: parts.engine.state()["open"] == len(asked), 15, parts.engine.state)
            parts.both_carry(len(asked))
            parts.end_one(number)
            for ask, one in zip(asked, told, strict=True):
                assert one.result(30) == numbered(0, TOKENS), ask.__name__
        assert parts.engine.state()["started"] == len(asked)

    def test_what_a_client_reads_is_byte_for_byte_what_a_hub_tells(self, parts: Parts) -> None:
        bodies = {
            "/v1/chat/completions": chat(tokens=TOKENS, stream=True, double={"delay_ms": 10, "per_write": 5}),
            "/api/chat": {"model": "tiny:1b", "messages": TALK, "options": {"num_predict": TOKENS}},
        }
        parts.engine.configure(delay_ms=10)
        for path, body in bodies.items():
            calls = [Asked(parts.url, body, path=path) for _ in range(4)]
            for call in calls:
                call.wait_for("t30 ")
            parts.end_one()
            for call in calls:
                read = call.finish()
                assert "id: 1-" not in read.text
                again = post(parts.hubs[0], path=f"/v1/requests/{call.request}/stream", body=None, method="GET")
                whole = "\n".join(line for line in again.text.split("\n") if not line.startswith("id: "))
                assert read.text == whole
            self._bring_back(parts)

    def test_one_whose_job_was_not_published_yet_is_asked_again(self, parts: Parts) -> None:
        """Nothing but comments was told: whoever waits for a turn may wait for it at another hub."""
        blockers = [Call(parts.url, chat(tokens=150, stream=True, double=SLOW)) for _ in range(SLOTS)]
        for call in blockers:
            call.wait_for("t0 ")
        waiting = [Call(parts.url, chat(tokens=5, stream=True)) for _ in range(6)]
        for call in waiting:
            call.wait_for(": queued")
        parts.end_one()
        for call in waiting:
            assert call.finish().said == numbered(0, 5)
        for call in blockers:
            assert call.finish().said == numbered(0, 150)
        assert parts.engine.state()["started"] == SLOTS + 6

    def _bring_back(self, parts: Parts) -> None:
        parts.grid.hub(url=parts.hubs[1], GHUB_HUB_SHUTDOWN_TIMEOUT_S="0.3", **QUICK)
        until(lambda: parts.front.ready_hubs == {*parts.hubs}, 10, parts.front.process.tail)

    def test_the_only_hub_may_be_started_again(self, parts: Parts, make_front: Callable[..., FrontProcess]) -> None:
        front = make_front(parts.hubs[1])
        stream = Call(front.url, chat(tokens=400, stream=True, double=SLOW))
        whole = Call(front.url, chat(tokens=400, double=SLOW))
        stream.wait_for("t30 ")
        parts.end_one()
        parts.grid.hub(url=parts.hubs[1], GHUB_HUB_SHUTDOWN_TIMEOUT_S="0.3", **QUICK)
        assert stream.finish().said == numbered(0, 400)
        assert whole.finish().said == numbered(0, 400)
        assert parts.engine.state()["started"] == 2

    def test_a_hub_that_says_nothing_more_is_left(self, parts: Parts, make_front: Callable[..., FrontProcess]) -> None:
        front = make_front(*parts.hubs, GHUB_CONNECT_STALL_S="1.5", GHUB_CONNECT_CHECK_TIMEOUT_S="0.5")
        streams = [Call(front.url, chat(tokens=100, stream=True, double={"delay_ms": 20})) for _ in range(4)]
        wholes = [Call(front.url, chat(tokens=100, double={"delay_ms": 20})) for _ in range(4)]
        for call in streams:
            call.wait_for("t5 ")
        parts.grid.hubs[parts.hubs[1]].signal(signal.SIGSTOP)
        try:
            for call in streams + wholes:
                assert call.finish().said == numbered(0, 100)
        finally:
            parts.grid.hubs[parts.hubs[1]].kill()
        assert parts.engine.state()["started"] == 8


class TestClients:
    def test_one_that_leaves_frees_the_engine(self, parts: Parts) -> None:
        long = {"tokens": 100_000, "double": {"delay_ms": 10}}
        for stream in (True, False):
            call = Call(parts.url, chat(stream=stream, **long))
            until(lambda: parts.engine.state()["open"] == 1, 5, parts.engine.state)
            call.drop()
            until(lambda: parts.engine.state()["open"] == 0, 5, parts.engine.state)
        assert parts.engine.state()["cancelled"] == 2

    def test_one_that_leaves_the_queue_leaves_nothing_behind(self, parts: Parts) -> None:
        blockers = [Call(parts.url, chat(tokens=100, stream=True, double=SLOW)) for _ in range(SLOTS)]
        for call in blockers:
            call.wait_for("t0 ")
        waiting = Call(parts.url, chat(tokens=5))
        with parts.grid.redis() as client:
            until(lambda: client.xlen("ghub:{jobs}:interactive:tiny:1b") > SLOTS, 5, "it waits")
            waiting.drop()
            until(lambda: client.xlen("ghub:{jobs}:interactive:tiny:1b") <= SLOTS, 5, "it does not")
        for call in blockers:
            call.finish()
        assert parts.engine.state()["started"] == SLOTS

    def test_one_that_comes_back_for_its_answer_itself_may(self, parts: Parts) -> None:
        with Asked(parts.url, chat(tokens=100, stream=True, double=SLOW), headers=RESUMABLE) as call:
            read = call.wait_for("t20 ")
            request = call.request
            call.drop()
        last, kept = cuts_of(read)[-1]
        rest = resume(parts.url, request, last)
        assert joined(kept, rest) == numbered(0, 100)
        assert ids_of(rest.text)
        assert rest.is_ended_once
        assert resume(parts.url, request, ids_of(rest.text)[-1]).status == 204

    def test_its_own_key_stands_for_its_request_as_at_a_hub(self, parts: Parts) -> None:
        key = {"idempotency-key": "mine"}
        first, again = (post(parts.url, chat(tokens=5), headers=key) for _ in range(2))
        assert first.text == again.text
        assert again.headers["idempotent-replayed"] == "true"
        refused = post(parts.url, chat(tokens=6), headers=key)
        assert (refused.status, refused.error["code"]) == (422, "idempotency_key_reused")
        assert parts.engine.state()["started"] == 1

    def test_a_slow_one_makes_the_front_wait_and_not_hoard(self, parts: Parts) -> None:
        fat = chat(tokens=4000, stream=True, double={"event_bytes": 20_000, "per_write": 4})
        process = psutil.Process(parts.front.process.pid)
        with Call(parts.url, fat, receive_buffer_bytes=4096) as slow:
            slow.wait_for("t0 ")
            before = process.memory_info().rss
            until(lambda: parts.engine.state()["finished"] + parts.engine.state()["cancelled"] == 1, 20, "it is done")
            assert process.memory_info().rss - before < 30 * 2**20
            slow.drop()

    def test_errors_pass_as_they_are(self, parts: Parts) -> None:
        for path, body in (("/v1/chat/completions", b"{"), ("/v1/chat/completions", chat(model="never:1b"))):
            direct, through = (post(url, body, path=path) for url in (parts.hubs[0], parts.url))
            assert (direct.status, direct.text) == (through.status, through.text)
        cut = post(
            parts.url,
            chat(tokens=9, stream=True, double={"cut_after": 3}),
            headers={"x-ghub-failover": "off"},
        )
        assert cut.error["code"]
        assert cut.is_ended_once

    def test_a_body_that_is_too_long_is_refused_here(
        self, parts: Parts, make_front: Callable[..., FrontProcess]
    ) -> None:
        front = make_front(parts.hubs[0], GHUB_CONNECT_MAX_BODY_BYTES="2000")
        refused = post(front.url, chat("x" * 3000))
        assert (refused.status, refused.error["code"]) == (413, "request_too_large")

    def test_what_is_no_job_passes_too(self, parts: Parts) -> None:
        for path in ("/v1/models", "/api/tags", "/health/live", "/api/version", "/nothing/there"):
            direct, through = (get(url, path) for url in (parts.hubs[0], parts.url))
            assert (direct.status, direct.text) == (through.status, through.text)
        page = Call(parts.url, path="/", method="GET", headers={"accept": "text/html"}).finish()
        assert "<!doctype html>" in page.text.lower()


class TestKeys:
    def test_a_wrong_one_is_refused_by_the_hub(self, guarded: str, make_front: Callable[..., FrontProcess]) -> None:
        front = make_front(guarded)
        assert post(front.url, chat(tokens=2)).error["code"] == "missing_api_key"
        wrong = post(front.url, chat(tokens=2), headers={"authorization": "Bearer ghub-wrong"})
        assert (wrong.status, wrong.error["code"]) == (401, "invalid_api_key")

    def test_the_front_s_own_is_shown_for_clients_that_show_none(
        self, parts: Parts, guarded: str, make_front: Callable[..., FrontProcess]
    ) -> None:
        with parts.grid.redis() as client:
            key = TestKey(client)
        front = make_front(guarded, GHUB_CONNECT_API_KEY=key.secret)
        assert _ollama_chat(front.url) == numbered(0, TOKENS)
        assert _openai_whole(front.url) == numbered(0, TOKENS)
        other = post(front.url, chat(tokens=2), headers={"authorization": "Bearer ghub-other"})
        assert other.status == 401
        assert key.secret not in front.process.tail(100_000)

    def test_web_pages_of_elsewhere_cannot_use_it(self, parts: Parts) -> None:
        page = post(parts.url, chat(tokens=2), headers={"origin": "https://elsewhere.example.org"})
        assert (page.status, page.error["code"]) == (403, "foreign_origin")
        renamed = post(parts.url, chat(tokens=2), headers={"host": "elsewhere.example.org"})
        assert (renamed.status, renamed.error["code"]) == (403, "unknown_host")

    def test_whoever_comes_through_it_is_no_operator(self, parts: Parts) -> None:
        assert get(parts.hubs[0], "/api/nodes").status == 200
        assert get(parts.url, "/api/nodes").status == 401


class TestHubs:
    def test_others_are_learned_of_and_forgotten(self, parts: Parts, make_front: Callable[..., FrontProcess]) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        front = make_front(parts.hubs[0], GHUB_CONNECT_DISCOVER_INTERVAL_S="0.3")
        parts.grid.hub(url=url, GHUB_HUB_PUBLIC_URL=url, **QUICK)
        listed = {hub["url"] for hub in get(parts.hubs[0], "/api/hubs").json["hubs"]}
        assert listed == {None, url}
        until(lambda: front.ready_hubs == {parts.hubs[0], url}, 10, lambda: front.standing)
        parts.grid.hubs[url].stop()
        until(lambda: front.ready_hubs == {parts.hubs[0]}, 10, lambda: front.standing)
        until(lambda: len(front.standing["hubs"]) == 1, 10, lambda: front.standing)

    def test_one_behind_tls_is_asked_if_its_certificate_is_good(
        self, parts: Parts, make_front: Callable[..., FrontProcess], tmp_path: Path
    ) -> None:
        known, unknown = (Authority(_folder(tmp_path, name)) for name in ("known", "unknown"))
        with (
            ended_before(parts.hubs[0], known.issue("127.0.0.1")) as good,
            ended_before(parts.hubs[0], unknown.issue("127.0.0.1")) as bad,
        ):
            front = make_front(good, bad, SSL_CERT_FILE=str(known.ca))
            until(lambda: front.ready_hubs == {good}, 10, lambda: front.standing)
            for stream in (True, False):
                assert post(front.url, chat(tokens=3, stream=stream)).said == numbered(0, 3)
            front.process.stop()

    def test_one_that_answers_nothing_is_never_in_the_way(
        self, parts: Parts, make_front: Callable[..., FrontProcess]
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and no more
            address = f"http://127.0.0.1:{silent.getsockname()[1]}"
            front = make_front(f"http://127.0.0.1:{free_port()}", address, parts.hubs[0])
            until(lambda: front.ready_hubs == {parts.hubs[0]}, 10, lambda: front.standing)
            for _ in range(5):
                assert post(front.url, chat(tokens=3)).said == numbered(0, 3)

    def test_without_any_each_api_hears_so_in_its_own_form(self, make_front: Callable[..., FrontProcess]) -> None:
        front = make_front(f"http://127.0.0.1:{free_port()}", GHUB_CONNECT_RETRY_S="0.2")
        refused = post(front.url, chat())
        assert (refused.status, refused.error["code"]) == (503, "no_hub")
        assert refused.headers["retry-after"] == "5"
        assert get(front.url, "/connect").status == 503
        with late.ollama.Client(front.url) as client, pytest.raises(late.ollama.ResponseError) as native:
            client.chat("tiny:1b", TALK)
        assert native.value.status_code == 503
        with (
            late.anthropic.Anthropic(base_url=front.url, api_key="unused", max_retries=0) as other,
            pytest.raises(late.anthropic.APIStatusError) as overloaded,
        ):
            other.messages.create(model="tiny:1b", messages=TALK, max_tokens=3)
        assert overloaded.value.status_code == 503

    def test_a_stream_that_no_hub_goes_on_with_ends_with_an_error(
        self, parts: Parts, make_front: Callable[..., FrontProcess]
    ) -> None:
        front = make_front(parts.hubs[1], GHUB_CONNECT_RESUME_S="0.5", GHUB_CONNECT_RETRY_S="0.5")
        call = Call(front.url, chat(tokens=300, stream=True, double=SLOW))
        call.wait_for("t9 ")
        parts.end_one()
        told = call.finish()
        assert told.error["code"] == "no_hub"
        assert told.is_ended_once


class TestItsEnd:
    def test_it_finishes_what_runs_and_takes_no_more(
        self, parts: Parts, make_front: Callable[..., FrontProcess]
    ) -> None:
        front = make_front(*parts.hubs)
        call = Call(front.url, chat(tokens=80, stream=True, double=SLOW))
        call.wait_for("t5 ")
        front.process.signal(signal.SIGTERM)
        until(lambda: front.process.log.read_text().count("draining"), 5, front.process.tail)
        assert post(front.url, chat()).error["code"] == "shutting_down"
        assert call.finish().said == numbered(0, 80)
        assert front.process.wait(5) == 0

    def test_what_takes_too_long_is_ended_and_freed(
        self, parts: Parts, make_front: Callable[..., FrontProcess]
    ) -> None:
        front = make_front(*parts.hubs, GHUB_CONNECT_SHUTDOWN_TIMEOUT_S="0.2")
        call = Call(front.url, chat(tokens=100_000, stream=True, double=SLOW))
        call.wait_for("t5 ")
        front.process.signal(signal.SIGTERM)
        told = call.finish()
        assert told.error["code"] == "shutting_down"
        assert told.is_ended_once
        assert front.process.wait(10) == 0
        assert parts.engine.state()["open"] == 0

    def test_without_a_hub_it_does_not_begin(self, tmp_path: Path) -> None:
        front = FrontProcess([], tmp_path)
        assert front.process.wait(5) == 2
        assert "--hub URL" in front.process.tail()
