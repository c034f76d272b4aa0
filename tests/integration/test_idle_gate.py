"""The owner comes first: a provider gives away only what is idle, and makes way when its owner begins to work."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from provider.gate.processes import is_pid_namespaced
from tests.doubles.process import EngineProcess
from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import Call, get, post
from tests.support.grid import Grid, chat
from tests.support.nvml import NvmlCode, StubGpu, StubNvml
from tests.support.pair import Pair
from tests.support.processes import until

OWNER = os.getpid()
"""The process that stands for the owner's game: this one, which is no part of any engine."""
SLOW = {"delay_ms": 20}
FOREVER = {"prefill_ms": 600_000}
SOON_S = 6
"""Several times what it takes where little else runs, s; what it takes is printed."""


def owner_works(gpu: StubNvml, pct: int = 85) -> None:
    gpu.set(StubGpu(utilization_pct=pct, processes={OWNER: pct}))


def engine_works(gpu: StubNvml, engine: EngineProcess, pct: int = 95) -> None:
    gpu.set(StubGpu(utilization_pct=pct, processes={engine.pid: pct}))


@pytest.fixture
def gpu(gpu: StubNvml) -> StubNvml:
    """The machine's GPUs; where the processes of a GPU cannot be told there is nothing to see here."""
    if is_pid_namespaced():
        pytest.skip("in a container with its own pids")
    return gpu


def test_jobs_wait_while_the_owner_uses_the_gpu_and_run_soon_after(
    make_pair: Callable[..., Pair], gpu: StubNvml
) -> None:
    owner_works(gpu)
    pair = make_pair(wait=False, **gpu.env)
    pair.grid.wait_for_model(pair.hub, pair.model, 20)
    until(lambda: pair.reasons() == ["gpu-busy"], 5, pair.reasons)
    with pair.call(stream=True) as call, pair.grid.redis() as client:
        call.wait_for(": queued, 0 ahead")
        assert leftovers.jobs(client, pair.model) == 1
        assert leftovers.pending(client, pair.model) == 0
        assert pair.first.state()["requests"] == []
        gpu.set(StubGpu(utilization_pct=5, processes={OWNER: 5}))
        idle_at = time.monotonic()
        until(lambda: pair.first.state()["started"] == 1, SOON_S, pair.reasons)
        print(f"figure: the job began {time.monotonic() - idle_at:.2f} s after the GPU was idle")
        assert call.finish().said == numbered(0, 5)


def test_an_idle_provider_takes_no_more_work_once_the_owner_begins(
    make_pair: Callable[..., Pair], gpu: StubNvml
) -> None:
    pair = make_pair(**gpu.env)
    owner_works(gpu)
    took_s = until(lambda: pair.reasons() == ["gpu-busy"], SOON_S, pair.reasons)
    print(f"figure: the gate was closed {took_s:.2f} s after the owner began")
    with pair.call(stream=True) as call:
        call.wait_for(": queued, 0 ahead")
        assert pair.first.state()["requests"] == []
    pair.is_at_rest()


def test_work_of_its_own_engine_does_not_close_the_gate(make_pair: Callable[..., Pair], gpu: StubNvml) -> None:
    pair = make_pair(GHUB_PROVIDER_SLOTS="2", **gpu.env)
    first = pair.ask_first(tokens=10_000, stream=True, double=SLOW)
    first.wait_for("t3 ")
    engine_works(gpu, pair.first)
    first.wait_for("t100 ")  # two seconds and more of readings
    assert pair.reasons() == []
    second = pair.call(tokens=5)
    assert second.finish().said == numbered(0, 5)
    first.close()
    pair.is_at_rest()


def test_the_gate_does_not_flap_in_the_afterglow_of_its_own_jobs(make_pair: Callable[..., Pair], gpu: StubNvml) -> None:
    """NVML tells the last second's load when the job has just ended."""
    pair = make_pair(**gpu.env)
    call = pair.ask_first(tokens=10_000, stream=True, double=SLOW)
    call.wait_for("t3 ")
    engine_works(gpu, pair.first)
    call.wait_for("t50 ")
    call.close()
    until(lambda: pair.first.state()["open"] == 0, SOON_S, pair.first.state)
    ended_at = time.monotonic()
    seen = set()
    while time.monotonic() < ended_at + 1:
        seen.add(tuple(pair.reasons()))
    assert seen == {()}
    pair.is_at_rest()


def test_a_job_that_has_not_begun_to_answer_moves_on_when_the_owner_comes(
    make_pair: Callable[..., Pair], gpu: StubNvml
) -> None:
    pair = make_pair(**gpu.env)
    pair.first.configure(**FOREVER)
    call = pair.ask_first(tokens=5, stream=True)
    engine_works(gpu, pair.first, 90)
    for name in gpu.env:  # the other node is a machine of its own, without this GPU
        del pair.env[name]
    pair.start_second()
    gpu.set(StubGpu(utilization_pct=99, processes={pair.first.pid: 40, OWNER: 59}))
    began = time.monotonic()
    until(lambda: pair.first.state()["open"] == 0, SOON_S, pair.first.state)
    print(f"figure: the job had left {time.monotonic() - began:.2f} s after the owner began")
    answer = call.finish()
    assert answer.said == numbered(0, 5)
    assert answer.fingerprint == pair.second.fingerprint
    assert pair.reasons() == ["gpu-busy"]
    pair.is_at_rest()


def test_a_stream_in_the_middle_makes_way_too(make_pair: Callable[..., Pair], gpu: StubNvml) -> None:
    pair = make_pair(**gpu.env)
    call = pair.ask_first(tokens=10_000, stream=True, double=SLOW)
    call.wait_for("t3 ")
    owner_works(gpu)
    until(lambda: pair.first.state()["open"] == 0, SOON_S, pair.first.state)
    answer = call.finish()
    assert answer.said == numbered(0, answer.said.count(" "))
    assert answer.error["code"] == "provider_lost"
    assert answer.is_ended_once
    pair.is_at_rest()


def test_without_yield_to_owner_running_jobs_finish(make_pair: Callable[..., Pair], gpu: StubNvml) -> None:
    pair = make_pair(GHUB_PROVIDER_GATE__YIELD_TO_OWNER="0", **gpu.env)
    call = pair.ask_first(tokens=150, stream=True, double=SLOW)
    call.wait_for("t3 ")
    owner_works(gpu)
    until(lambda: pair.reasons() == ["gpu-busy"], SOON_S, pair.reasons)
    assert call.finish().said == numbered(0, 150)


@pytest.mark.parametrize(("policy", "reasons"), [("assume-idle", []), ("slots-only", []), ("never", ["gpu-unknown"])])
def test_a_gpu_that_does_not_tell_is_treated_as_the_policy_says(
    make_pair: Callable[..., Pair], gpu: StubNvml, policy: str, reasons: list[str]
) -> None:
    gpu.set(StubGpu(is_mig=True))
    pair = make_pair(wait=False, GHUB_PROVIDER_GATE__UNKNOWN=policy, **gpu.env)
    pair.grid.wait_for_model(pair.hub, pair.model, 20)
    until(lambda: pair.reasons() == reasons, 5, pair.reasons)
    if not reasons:
        assert pair.call().finish().said == numbered(0, 5)
    else:
        with pair.call(stream=True) as call:
            call.wait_for(": queued, 0 ahead")
            assert pair.first.state()["requests"] == []


def test_a_driver_that_goes_away_and_returns_is_followed(make_pair: Callable[..., Pair], gpu: StubNvml) -> None:
    pair = make_pair(GHUB_PROVIDER_GATE__UNKNOWN="never", **gpu.env)
    gpu.set(StubGpu(), errors={"*": NvmlCode.DRIVER_NOT_LOADED})
    until(lambda: pair.reasons() == ["gpu-unknown"], 5, pair.reasons)
    gpu.set(StubGpu())
    until(lambda: pair.reasons() == [], 15, pair.reasons)


def test_only_the_gpus_that_the_engine_uses_count(make_pair: Callable[..., Pair], gpu: StubNvml) -> None:
    gpu.set(StubGpu(), StubGpu(utilization_pct=99, processes={OWNER: 99}))
    pair = make_pair(GHUB_PROVIDER_GATE__GPUS="[0]", **gpu.env)
    assert pair.call().finish().said == numbered(0, 5)


def test_outside_its_schedule_a_machine_takes_nothing(module_grid: Grid, hub: str, gpu: StubNvml) -> None:
    engine = module_grid.engine("scheduled:1b")
    now = datetime.now(UTC)
    later, earlier = now + timedelta(hours=2), now - timedelta(hours=2)
    node = module_grid.provider(
        engine.url,
        wait=False,
        GHUB_PROVIDER_SCHEDULE__WINDOWS=f'["{later:%H:%M}-{earlier:%H:%M}"]',
        GHUB_PROVIDER_SCHEDULE__TIMEZONE="UTC",
        **gpu.env,
    )
    url = module_grid.provider_urls[node]
    until(lambda: module_grid.status(url, "/busy") == 200, 20, module_grid.providers[node].tail)
    until(lambda: get(url, "/busy").json["reasons"] == ["outside-schedule"], 5, lambda: get(url, "/busy").text)
    module_grid.wait_for_model(hub, "scheduled:1b")
    with Call(hub, chat(model="scheduled:1b", stream=True)) as call:
        call.wait_for(": queued, 0 ahead")
        assert engine.state()["requests"] == []


def test_inside_its_schedule_it_works(module_grid: Grid, hub: str) -> None:
    engine = module_grid.engine("on-time:1b")
    now = datetime.now(UTC)
    later, earlier = now + timedelta(hours=2), now - timedelta(hours=2)
    module_grid.provider(
        engine.url,
        GHUB_PROVIDER_SCHEDULE__WINDOWS=f'["{earlier:%H:%M}-{later:%H:%M}"]',
        GHUB_PROVIDER_SCHEDULE__TIMEZONE="UTC",
    )
    module_grid.wait_for_model(hub, "on-time:1b")
    assert post(hub, chat(model="on-time:1b", tokens=5)).said == numbered(0, 5)
