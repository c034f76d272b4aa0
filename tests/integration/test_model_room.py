"""Idle is not empty: no job is taken for a model that would not fit into the GPU memory that is free."""

from collections.abc import Callable

import pytest

from tests.doubles.models import Model
from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import Call, post
from tests.support.grid import Grid, chat
from tests.support.nvml import StubGpu, StubNvml
from tests.support.pair import QUICK, Pair, reasons
from tests.support.processes import until

GIB = 2**30
FULL = StubGpu(memory_used_mib=20_000, memory_total_mib=24_000)
ROOMY = StubGpu(memory_used_mib=500, memory_total_mib=24_000)


@pytest.fixture
def ollama(module_grid: Grid, hub: str, gpu: StubNvml, request: pytest.FixtureRequest) -> tuple[str, str, str]:
    """A node whose engine has a small model in memory and a large one on disk; its name and theirs."""
    small, large = f"small-{request.node.name[:40]}", f"large-{request.node.name[:40]}"
    gpu.set(FULL)
    engine = module_grid.engine(
        Model(small, size_bytes=2 * GIB, is_loaded=True), Model(large, size_bytes=10 * GIB), kind="ollama"
    )
    node = module_grid.provider(engine.url, **QUICK, **gpu.env)
    module_grid.wait_for_model(hub, large)
    return node, small, large


def test_a_model_without_room_waits_while_one_in_memory_is_served(
    module_grid: Grid, hub: str, gpu: StubNvml, ollama: tuple[str, str, str]
) -> None:
    node, small, large = ollama
    with Call(hub, chat(model=large, tokens=5, stream=True)) as call:
        call.wait_for(": queued, 0 ahead")
        assert post(hub, chat(model=small, tokens=5)).said == numbered(0, 5)
        assert reasons(module_grid, node) == []
        with module_grid.redis() as client:
            until(lambda: leftovers.pending(client) == 0, 5, lambda: leftovers.told(client))
        gpu.set(ROOMY)
        assert call.finish().said == numbered(0, 5)


def test_a_direct_call_gets_no_more_memory_than_a_job(module_grid: Grid, gpu: StubNvml) -> None:
    gpu.set(FULL)
    models = Model("small:1b", size_bytes=2 * GIB, is_loaded=True), Model("large:1b", size_bytes=10 * GIB)
    engine = module_grid.engine(*models, kind="ollama")
    node = module_grid.provider(engine.url, GHUB_PROVIDER_SERVER__REQUIRE_HMAC="false", **QUICK, **gpu.env)
    url = module_grid.provider_urls[node]
    refused = post(url, chat(model="large:1b", tokens=5))
    assert (refused.status, refused.error["code"]) == (503, "provider_busy")
    assert "gpu-memory" in refused.error["message"]
    assert engine.state()["requests"] == []
    assert post(url, chat(model="small:1b", tokens=5)).said == numbered(0, 5)


def test_a_node_without_room_for_any_model_says_so(module_grid: Grid, hub: str, gpu: StubNvml) -> None:
    gpu.set(FULL)
    engine = module_grid.engine(Model("huge:70b", size_bytes=40 * GIB), kind="ollama")
    node = module_grid.provider(engine.url, wait=False, **QUICK, **gpu.env)
    until(lambda: reasons(module_grid, node) == ["gpu-memory"], 20, lambda: reasons(module_grid, node))
    gpu.set(StubGpu(memory_used_mib=500, memory_total_mib=80_000))
    until(lambda: reasons(module_grid, node) == [], 5, lambda: reasons(module_grid, node))
    module_grid.wait_for_model(hub, "huge:70b")
    assert post(hub, chat(model="huge:70b", tokens=5)).said == numbered(0, 5)


def test_an_engine_that_finds_no_memory_after_all_gives_the_job_to_another_node(
    make_pair: Callable[..., Pair],
) -> None:
    """Somebody may take it between the look and the load."""
    pair = make_pair()
    pair.first.configure(status=500, error_body="model requires more system memory (9.1 GiB) than is available")
    call = pair.call(stream=True)
    until(lambda: pair.first.state()["requests"] != [], 5, pair.first.state)
    pair.start_second()
    answer = call.finish()
    assert answer.said == numbered(0, 5)
    assert answer.fingerprint == pair.second.fingerprint
    assert len(pair.first.state()["requests"]) == 1, "it leaves the model alone for a while"
