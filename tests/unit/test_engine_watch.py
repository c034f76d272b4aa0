"""The eye on the engine: it opens and closes the gate in time, and not for nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from common.wire import Failure
from provider.engines.watch import EngineWatch
from provider.errors import DISCONNECTED, EngineBroke, EngineDown, EngineError
from tests.support.ports import free_port
from tests.unit.engine_server import HUB, LLAMACPP, OLLAMA, OPENAI, Said, looking_at, serving

LIMIT_S = 10


class Watched:
    """A watch at work, and what it told."""

    def __init__(self, url: str, **fields: Any) -> None:
        self.told: asyncio.Queue[bool] = asyncio.Queue()
        self.watch = EngineWatch(looking_at(url, **fields), None, lambda: self.told.put_nowait(self.watch.is_up))

    async def next(self) -> bool:
        """What it tells next."""
        async with asyncio.timeout(LIMIT_S):
            return await self.told.get()

    async def until(self, is_up: bool) -> None:
        """Wait until it says so."""
        while await self.next() is not is_up:
            pass


@asynccontextmanager
async def watching(url: str, **fields: Any) -> AsyncIterator[Watched]:
    watched = Watched(url, **fields)
    task = asyncio.create_task(watched.watch.run())
    try:
        yield watched
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await watched.watch.aclose()


def url_of(port: int) -> str:
    return f"http://127.0.0.1:{port}"


async def test_before_anything_was_seen_there_is_no_engine() -> None:
    watch = EngineWatch(looking_at("http://127.0.0.1:1"), None, lambda: None)
    assert (watch.status.kind, watch.models, watch.slots) == ("unknown", [], 4)
    with pytest.raises(EngineDown):
        _ = watch.current


async def test_an_engine_may_come_later_and_go_and_come() -> None:
    port = free_port()
    async with watching(url_of(port)) as watched:
        assert await watched.next() is False
        async with serving(OLLAMA, port):
            await watched.until(is_up=True)
            assert watched.watch.status.kind == "ollama"
            assert watched.watch.models == ["llama3", "qwen3:8b"]
        await watched.until(is_up=False)
        async with serving(OLLAMA, port):
            await watched.until(is_up=True)


async def test_models_in_memory_come_first() -> None:
    tags = {"models": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}
    async with (
        serving(OLLAMA | {"/api/tags": tags, "/api/ps": {"models": [{"name": "b"}]}}) as server,
        watching(server.url) as watched,
    ):
        await watched.until(is_up=True)
        assert watched.watch.models == ["b", "a", "c"]


async def test_slots_are_the_engine_s_unless_set() -> None:
    async with serving(LLAMACPP | {"/props": {"total_slots": 7}}) as server, watching(server.url) as watched:
        await watched.until(is_up=True)
        assert watched.watch.slots == 7
    assert EngineWatch(looking_at(None), 2, lambda: None).slots == 2


async def test_an_engine_of_another_kind_at_the_same_place_is_known_anew() -> None:
    port = free_port()
    async with watching(url_of(port)) as watched:
        async with serving(OPENAI, port):
            await watched.until(is_up=True)
            assert watched.watch.status.kind == "openai"
        await watched.until(is_up=False)
        async with serving(LLAMACPP, port):
            await watched.until(is_up=True)
            assert watched.watch.status.kind == "llamacpp"


async def test_an_engine_that_changes_kind_between_two_looks_is_known_anew() -> None:
    async with serving(LLAMACPP) as server, watching(server.url) as watched:
        await watched.until(is_up=True)
        server.answers.clear()
        server.answers.update(OLLAMA)
        await watched.until(is_up=False)
        await watched.until(is_up=True)
        assert watched.watch.status.kind == "ollama"


async def test_a_single_late_answer_closes_nothing() -> None:
    """An engine that works hard may well be late once."""
    async with serving(OPENAI) as server, watching(server.url, probe_timeout_s=0.3) as watched:
        await watched.until(is_up=True)
        late = asyncio.Event()

        class Once(dict[str, Any]):
            def get(self, path: str, default: Any = None) -> Any:
                if path == "/v1/models" and not late.is_set():
                    late.set()
                    return Said(is_late=True)
                return super().get(path, default)

        server.answers = Once(OPENAI)
        await asyncio.wait_for(late.wait(), LIMIT_S)
        await server.asked_again("/v1/models", 2)
        assert watched.told.empty()


async def test_an_engine_that_stays_silent_is_down() -> None:
    async with serving(OPENAI) as server, watching(server.url, probe_timeout_s=0.1) as watched:
        await watched.until(is_up=True)
        server.answers["/v1/models"] = Said(is_late=True)
        assert await watched.next() is False
        server.answers |= OPENAI
        assert await watched.next() is True


async def test_an_engine_that_says_it_is_not_well_is_down_at_once() -> None:
    async with serving(OPENAI) as server, watching(server.url, probe_interval_s=300) as watched:
        await watched.until(is_up=True)
        server.answers["/v1/models"] = Said(b"", 500)
        watched.watch.look()
        assert await watched.next() is False


@pytest.mark.parametrize(
    "error",
    [
        EngineDown("refused"),
        EngineBroke(Failure(502, DISCONNECTED, "the engine broke off its answer", retryable=True)),
    ],
    ids=["refused", "cut"],
)
async def test_a_job_that_found_it_gone_closes_at_once_until_a_look(error: EngineError) -> None:
    async with serving(OPENAI) as server, watching(server.url, probe_interval_s=300) as watched:
        await watched.until(is_up=True)
        watched.watch.learn_from(error)
        assert watched.told.get_nowait() is False
        assert await watched.next() is True


async def test_an_answer_that_makes_no_sense_closes_nothing() -> None:
    async with serving(OPENAI) as server, watching(server.url, probe_interval_s=300) as watched:
        await watched.until(is_up=True)
        watched.watch.learn_from(EngineBroke(Failure(502, "engine_bad_answer", "no JSON", retryable=True)))
        assert watched.told.empty()


async def test_a_look_that_finds_nothing_new_tells_nothing() -> None:
    async with serving(OPENAI) as server, watching(server.url, probe_interval_s=300) as watched:
        await watched.until(is_up=True)
        watched.watch.look()
        await server.asked_again("/v1/models")
        watched.watch.look()
        await server.asked_again("/v1/models")
        assert watched.told.empty()


async def test_new_models_are_told_and_logged() -> None:
    async with serving(OPENAI) as server, watching(server.url, probe_interval_s=300) as watched:
        await watched.until(is_up=True)
        server.answers["/v1/models"] = {"data": [{"id": "m"}, {"id": "n"}]}
        with capture_logs() as logs:
            watched.watch.look()
            assert await watched.next() is True
        assert watched.watch.models == ["m", "n"]
        assert [log["models"] for log in logs if log["event"] == "models_changed"] == [["m", "n"]]


async def test_a_closed_port_is_down_at_once() -> None:
    async with watching(url_of(port := free_port()), probe_interval_s=300) as watched:
        async with serving(OPENAI, port):
            await watched.until(is_up=True)
        watched.watch.look()
        assert await watched.next() is False


async def test_why_it_is_down_is_logged_once_and_again_when_it_changes() -> None:
    with capture_logs() as logs:
        async with serving(HUB) as server, watching(server.url, probe_interval_s=300) as watched:
            assert await watched.next() is False
            for _ in range(2):
                watched.watch.look()
                await server.asked_again("/api/registry")
            server.answers.clear()
            watched.watch.look()
            await server.asked_again("/v1/models", 2)
            watched.watch.look()
            await server.asked_again("/v1/models", 2)
    told = [log["error"] for log in logs if log["event"] == "engine_down"]
    assert told == [f"{server.url} is a hub, not an engine", f"{server.url}/v1/models answered 404"]


async def test_while_down_it_looks_more_often_than_while_up() -> None:
    port = free_port()
    async with watching(url_of(port), probe_interval_s=300) as watched:
        assert await watched.next() is False
        async with serving(OPENAI, port):
            await watched.until(is_up=True)


def slots_taken(count: int) -> list[dict[str, bool]]:
    """What llama.cpp says of four slots."""
    return [{"is_processing": number < count} for number in range(4)]


async def test_slots_that_others_take_are_counted_at_the_moment_of_the_look() -> None:
    """Measured against what runs later, our own requests would count as others' once they had ended."""
    ours = 3
    async with serving({**LLAMACPP, "/slots": slots_taken(3)}) as server:
        settings = looking_at(server.url, probe_interval_s=60)
        watch = EngineWatch(settings, None, lambda: None, running=lambda: ours)
        task = asyncio.create_task(watch.run())
        try:
            await _until_seen(watch, in_use=3)
            assert watch.others == 0
            ours = 0
            assert watch.others == 0, "until it is looked at again"
            server.answers["/slots"] = slots_taken(2)
            watch.look()
            await _until_seen(watch, in_use=2)
            assert watch.others == 2
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await watch.aclose()


async def _until_seen(watch: EngineWatch, in_use: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while watch.status.in_use != in_use:  # noqa: ASYNC110 - nothing tells but looking
            await asyncio.sleep(0.01)
