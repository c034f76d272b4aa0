"""Ollama's API at the hub, over a double of each kind of engine: clients hear the same, whatever serves the model."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from tests.doubles.process import EngineProcess
from tests.doubles.reading import numbered
from tests.support.call import Answer, Call, get, post
from tests.support.grid import Grid

KINDS = ("ollama", "llamacpp", "vllm", "lmstudio", "openai")
TALK = [{"role": "user", "content": "count for me"}]
TWO = {"options": {"num_predict": 2}}
ASKED = {"/api/chat": {"messages": TALK}, "/api/generate": {"prompt": "count for me"}}


@dataclass(frozen=True)
class Parts:
    """A hub, and an engine of each kind with a model of its own that is called after it."""

    hub: str
    engines: dict[str, EngineProcess]
    grid: Grid

    def ask(self, path: str, body: dict[str, Any]) -> Answer:
        """Post, and read to the end."""
        return post(self.hub, body, path=path)


@pytest.fixture(scope="module")
def parts(module_grid: Grid) -> Parts:
    hub = module_grid.hub(GHUB_HUB_FIRST_COMMENT_S="0.2", GHUB_HUB_COMMENT_INTERVAL_S="0.5")
    engines = {kind: module_grid.engine(f"{kind}:1b", kind=kind) for kind in KINDS}
    for kind, engine in engines.items():
        module_grid.provider(engine.url, f"node-of-{kind}", wait=False, GHUB_PROVIDER_SLOTS="1")
    for kind in KINDS:
        module_grid.wait_for_model(hub, f"{kind}:1b", within_s=40)
    return Parts(hub, engines, module_grid)


@pytest.fixture(autouse=True)
def _well_behaved(parts: Parts) -> Iterator[None]:
    yield
    for engine in parts.engines.values():
        engine.configure()


def lines(answer: Answer) -> list[dict[str, Any]]:
    """A stream's lines, checked for their form."""
    assert answer.status == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.text.endswith("\n")
    return [orjson.loads(line) for line in answer.text.splitlines()]


def said(line: dict[str, Any]) -> str:
    return str(line["message"]["content"] if "message" in line else line["response"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ASKED)
class TestAnswers:
    def test_an_answer_streams_unless_the_client_says_otherwise(self, path: str, kind: str, parts: Parts) -> None:
        told = lines(parts.ask(path, {"model": f"{kind}:1b", **ASKED[path], **TWO}))
        assert "".join(said(line) for line in told) == numbered(0, 2)
        assert len(told) >= 3
        assert [line["done"] for line in told] == [False] * (len(told) - 1) + [True]
        last = told[-1]
        assert (last["model"], last["done_reason"], last["eval_count"]) == (f"{kind}:1b", "length", 2)
        assert last["total_duration"] > 0

    def test_or_comes_whole(self, path: str, kind: str, parts: Parts) -> None:
        answer = parts.ask(path, {"model": f"{kind}:1b", "stream": False, **ASKED[path], **TWO})
        assert answer.headers["content-type"].startswith("application/json")
        assert (said(answer.json), answer.json["done"], answer.json["eval_count"]) == (numbered(0, 2), True, 2)

    def test_a_model_that_is_only_to_be_loaded_says_nothing(self, path: str, kind: str, parts: Parts) -> None:
        answer = parts.ask(path, {"model": f"{kind}:1b"})
        assert (answer.status, said(answer.json)) == (200, "")
        assert (answer.json["done"], answer.json["done_reason"]) == (True, "load")

    def test_an_engine_s_refusal_is_heard_in_its_words(self, path: str, kind: str, parts: Parts) -> None:
        parts.engines[kind].configure(status=400)
        answer = parts.ask(path, {"model": f"{kind}:1b", **ASKED[path]})
        assert (answer.status, answer.json) == (400, {"error": "scripted failure 400"})

    def test_an_answer_that_breaks_off_each_time_ends_with_an_error(self, path: str, kind: str, parts: Parts) -> None:
        """Engines that can go on with it are asked six times: attempts that bring something count half."""
        parts.engines[kind].configure(cut_after=2, delay_ms=100)
        told = lines(parts.ask(path, {"model": f"{kind}:1b", **ASKED[path]}))
        goes_on = kind in ("ollama", "llamacpp", "vllm")
        assert "".join(said(line) for line in told[:-1]) == numbered(0, 12 if goes_on else 2)
        assert set(told[-1]) == {"error"}

    def test_who_waits_hears_lines_that_are_part_of_the_answer(self, path: str, kind: str, parts: Parts) -> None:
        parts.engines[kind].configure(prefill_ms=1000)
        told = lines(parts.ask(path, {"model": f"{kind}:1b", **ASKED[path], **TWO}))
        silent = [line for line in told[:-1] if not said(line)]
        assert silent
        assert told.index(silent[0]) == 0
        assert all(line["done"] is False and line["model"] == f"{kind}:1b" for line in silent)
        assert "".join(said(line) for line in told) == numbered(0, 2)


class TestEmbeddings:
    @pytest.mark.parametrize("kind", ["ollama", "llamacpp", "lmstudio"])
    @pytest.mark.parametrize("texts", ["one", ["one", "two"]], ids=["one", "two"])
    def test_texts_become_vectors(self, texts: str | list[str], kind: str, parts: Parts) -> None:
        answer = parts.ask("/api/embed", {"model": f"{kind}:1b", "input": texts, "stream": True})
        assert answer.status == 200, answer.text
        assert len(answer.json["embeddings"]) == (2 if isinstance(texts, list) else 1)
        assert len({len(vector) for vector in answer.json["embeddings"]}) == 1
        assert answer.json["model"] == f"{kind}:1b"

    def test_an_engine_that_embeds_nothing_is_not_asked_to(self, parts: Parts) -> None:
        answer = parts.ask("/api/embed", {"model": "openai:1b", "input": "one"})
        assert answer.status in (404, 501)
        assert isinstance(answer.json["error"], str)


class TestStrangers:
    def test_where_keys_are_asked_for_nothing_is_told_without_one(self, parts: Parts) -> None:
        hub = parts.grid.hub(GHUB_HUB_AUTH="required")
        told = [get(hub, path) for path in ("/api/tags", "/api/ps", "/api/version")]
        told += [post(hub, {"model": "ollama:1b"}, path=path) for path in (*ASKED, "/api/embed", "/api/show")]
        assert [answer.status for answer in told] == [401] * 7
        assert all(set(answer.json) == {"error"} for answer in told)
        assert get(hub, "/").status == 200


class TestTheGrid:
    def test_every_engine_s_model_is_listed(self, parts: Parts) -> None:
        assert [model["name"] for model in get(parts.hub, "/api/tags").json["models"]] == sorted(
            f"{kind}:1b" for kind in KINDS
        )

    def test_what_needs_no_loading_runs(self, parts: Parts) -> None:
        assert {"vllm:1b", "openai:1b"} <= {model["name"] for model in get(parts.hub, "/api/ps").json["models"]}

    @pytest.mark.parametrize("kind", KINDS)
    def test_each_can_be_shown(self, kind: str, parts: Parts) -> None:
        assert parts.ask("/api/show", {"model": f"{kind}:1b"}).json["capabilities"] == ["completion"]

    @pytest.mark.parametrize("path", [*ASKED, "/api/embed", "/api/show"])
    def test_an_unknown_model_is_not_found(self, path: str, parts: Parts) -> None:
        answer = parts.ask(path, {"model": "nobody", "input": "x", "prompt": "x", "messages": TALK})
        assert answer.status == 404
        assert "nobody" in answer.json["error"]

    @pytest.mark.parametrize("path", ["/api/pull", "/api/create", "/api/copy", "/api/push"])
    def test_what_would_change_an_engine_reaches_none(self, path: str, parts: Parts) -> None:
        assert parts.ask(path, {"model": "ollama:1b"}).status == 403
        assert path not in [request["path"] for request in parts.engines["ollama"].state()["requests"]]

    @pytest.mark.parametrize(
        "body", [b"", b"[1]", b'{"model": 5}', b'{"model": "ollama:1b", "messages": "hi"}', b'{"messages": []}']
    )
    def test_what_is_no_request_is_told_so_in_ollama_s_form(self, body: bytes, parts: Parts) -> None:
        answer = post(parts.hub, body, path="/api/chat")
        assert answer.status == 400
        assert set(answer.json) == {"error"}

    @pytest.mark.parametrize("kind", ["ollama", "vllm"])
    async def test_a_client_that_leaves_frees_the_engine(self, kind: str, parts: Parts) -> None:
        parts.engines[kind].configure(delay_ms=20)
        body = {"model": f"{kind}:1b", "messages": TALK, "options": {"num_predict": 1000}}
        with Call(parts.hub, body, path="/api/chat") as call:
            call.wait_for("t1 ")
            call.drop()
        await parts.engines[kind].wait_open(0)
