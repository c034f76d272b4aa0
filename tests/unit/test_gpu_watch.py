"""The watch over the GPUs: readings come in the background, and move the gate, the slots and running work."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from common.reasons import Reason
from provider.gate import gpu
from provider.gate.readings import GpuSnapshot
from provider.settings import GateSettings
from tests.unit.provider_parts import NO_GPU, Parts, gpu_at

OWNER, ENGINE, NEWBORN = 11, 22, 33
QUICK: dict[str, Any] = {"sample_interval_s": 0.05, "idle_after_s": 0}
LIMIT_S = 10


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The engine's processes, as a look at the machine would find them; and everything quick."""
    found = {ENGINE}
    monkeypatch.setattr(gpu, "own_pids", lambda *_: frozenset(found))
    monkeypatch.setattr(gpu, "WITHOUT_GPU_S", 0.05)
    return found


def parts_with(snapshot: GpuSnapshot, **gate: Any) -> Parts:
    parts = Parts(snapshot, GateSettings(**{**QUICK, **gate}))
    parts.engine.now = replace(parts.engine.now, slots=4)
    parts.engine.taken_by_others = 3
    return parts


@asynccontextmanager
async def watching(parts: Parts) -> AsyncIterator[Parts]:
    task = asyncio.create_task(parts.gpu.run())
    try:
        yield parts
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - what is waited for is moved by a thread
            await asyncio.sleep(0.005)


async def readings(parts: Parts, count: int) -> None:
    """Wait until so many more were made and judged."""
    wanted = parts.probe.samples + count + 1
    await until(lambda: parts.probe.samples >= wanted)


class TestGate:
    async def test_nothing_is_taken_before_the_first_readings(self) -> None:
        parts = parts_with(gpu_at(0))
        assert parts.gate.reasons == (Reason.GPU_UNKNOWN,)
        async with watching(parts):
            await until(lambda: parts.gate.is_open)

    async def test_it_stays_shut_until_the_first_rest_is_over(self) -> None:
        async with watching(parts_with(gpu_at(0), idle_after_s=3600)) as parts:
            await readings(parts, 5)
            assert parts.gate.reasons == (Reason.GPU_UNKNOWN,)

    async def test_it_follows_the_owner(self) -> None:
        async with watching(parts_with(gpu_at(0))) as parts:
            await until(lambda: parts.gate.is_open)
            parts.probe.snapshot = gpu_at(90)
            await until(lambda: parts.gate.reasons == (Reason.GPU_BUSY,))
            assert parts.gpu.utilization_pct == 90
            parts.probe.snapshot = gpu_at(3)
            await until(lambda: parts.gate.is_open)

    async def test_on_a_machine_without_a_gpu_it_opens_and_nobody_else_counts(self) -> None:
        async with watching(parts_with(NO_GPU)) as parts:
            await until(lambda: parts.gate.is_open)
            assert (parts.slots.others, parts.slots.free) == (0, 4)

    async def test_never_holds_it_shut_where_nothing_is_told(self) -> None:
        async with watching(parts_with(gpu_at(None), unknown="never")) as parts:
            await readings(parts, 5)
            assert parts.gate.reasons == (Reason.GPU_UNKNOWN,)

    async def test_the_end_lets_go_of_the_driver(self) -> None:
        async with watching(parts_with(gpu_at(0))) as parts:
            await until(lambda: parts.gate.is_open)
        await until(lambda: parts.probe.is_closed)


class TestUnknown:
    async def test_of_a_gpu_that_does_not_tell_only_slots_count(self) -> None:
        async with watching(parts_with(gpu_at(None))) as parts:
            await until(lambda: parts.slots.others == 3)
            assert parts.gate.is_open
            assert parts.slots.free == 1
            parts.engine.taken_by_others = 2
            await until(lambda: parts.slots.free == 2)

    async def test_a_driver_that_goes_away_does_not_make_it_a_machine_without_a_gpu(self) -> None:
        async with watching(parts_with(gpu_at(0))) as parts:
            await until(lambda: parts.gate.is_open)
            assert parts.slots.others == 0
            parts.probe.snapshot = NO_GPU
            await until(lambda: parts.slots.others == 3)
            parts.probe.snapshot = gpu_at(0)
            await until(lambda: parts.slots.others == 0)

    async def test_readings_go_on_after_one_that_failed(self) -> None:
        parts = parts_with(gpu_at(0))
        parts.probe.trouble = RuntimeError("the driver's library is of another kind")
        with capture_logs() as told:
            async with watching(parts):
                await until(lambda: parts.probe.samples >= 2)
                parts.probe.trouble = None
                await until(lambda: parts.gate.is_open)
        assert {"gpu_reading_failed"} < {line["event"] for line in told}

    async def test_a_driver_that_hangs_says_nothing_about_now(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gpu, "STALE_S", 0.3)
        parts, hang = parts_with(gpu_at(0), unknown="never"), threading.Event()
        async with watching(parts):
            await until(lambda: parts.gate.is_open)
            sample = parts.probe.sample
            monkeypatch.setattr(parts.probe, "sample", lambda: hang.wait(LIMIT_S) and sample())
            await until(lambda: parts.gate.reasons == (Reason.GPU_UNKNOWN,))
            assert parts.gpu.snapshot.error == "the driver does not answer"
            assert (parts.gpu.gpus, parts.gpu.utilization_pct) == ((), None)
            hang.set()
            await until(lambda: parts.gate.is_open)

    async def test_gpus_that_are_not_there_are_named_once(self) -> None:
        with capture_logs() as told:
            async with watching(parts_with(gpu_at(0), gpus=[0, 7])) as parts:
                await readings(parts, 5)
        assert [line["missing"] for line in told if line["event"] == "gpus_missing"] == [(7,)]


class TestOwnWork:
    async def test_the_engine_s_load_is_no_owner(self) -> None:
        parts = parts_with(gpu_at(0))
        parts.slots.take()
        async with watching(parts):
            parts.probe.snapshot = gpu_at(99, [(ENGINE, 99)])
            await until(lambda: parts.gate.is_open)
            await readings(parts, 5)
            assert parts.gate.is_open
            assert parts.made_way == 0

    async def test_a_process_that_the_engine_has_just_started_is_known_at_once(self, own: set[int]) -> None:
        parts = parts_with(gpu_at(99, [(ENGINE, 99)]))
        parts.slots.take()
        async with watching(parts):
            await until(lambda: parts.gate.is_open)
            own.add(NEWBORN)
            parts.probe.snapshot = gpu_at(99, [(ENGINE, 1), (NEWBORN, 98)])
            await readings(parts, 5)
            assert parts.gate.is_open
            assert parts.made_way == 0

    async def test_one_that_it_no_longer_has_is_found_out_in_a_while(
        self, own: set[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gpu, "PROCESSES_S", 0.3)
        parts = parts_with(gpu_at(99, [(ENGINE, 99)]))
        parts.slots.take()
        async with watching(parts):
            await until(lambda: parts.gate.is_open)
            own.clear()
            await until(lambda: parts.gate.reasons == (Reason.GPU_BUSY,))

    def test_figures_are_taken_for_its_own_for_a_moment_after_its_last_job(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now_s = 1000.0
        monkeypatch.setattr("provider.slots.time.monotonic", lambda: now_s)
        parts = parts_with(gpu_at(0))
        seen = [parts.gpu.is_working]
        parts.slots.take()
        parts.slots.give_back()
        for _ in range(3):
            seen.append(parts.gpu.is_working)
            now_s += gpu.AFTERGLOW_S * 0.6
        assert seen == [False, True, True, False]
        assert gpu.AFTERGLOW_S > 1, "NVML's sample period"

    async def test_looking_for_processes_is_not_done_at_each_reading(self, monkeypatch: pytest.MonkeyPatch) -> None:
        looks: list[tuple[object, ...]] = []

        def look(*asked: object) -> frozenset[int]:
            looks.append(asked)
            return frozenset({ENGINE})

        monkeypatch.setattr(gpu, "own_pids", look)
        async with watching(parts_with(gpu_at(50, [(ENGINE, 50)]))) as parts:
            await readings(parts, 10)
        assert looks == [("http://127.0.0.1:11434", ())]


class TestOwner:
    async def test_running_work_makes_way(self) -> None:
        parts = parts_with(gpu_at(0), yield_after_s=0)
        parts.slots.take()
        async with watching(parts):
            await until(lambda: parts.gate.is_open)
            parts.probe.snapshot = gpu_at(99, [(ENGINE, 50), (OWNER, 49)])
            await until(lambda: parts.made_way > 0)

    @pytest.mark.parametrize("gate", [{"yield_to_owner": False, "yield_after_s": 0}, {"yield_after_s": 3600}])
    async def test_but_not_where_it_need_not_and_not_before_its_time(self, gate: dict[str, Any]) -> None:
        parts = parts_with(gpu_at(99, [(OWNER, 99)]), **gate)
        parts.slots.take()
        async with watching(parts):
            await until(lambda: parts.gate.reasons == (Reason.GPU_BUSY,))
            await readings(parts, 5)
            assert parts.made_way == 0

    async def test_where_nothing_runs_nothing_makes_way(self) -> None:
        async with watching(parts_with(gpu_at(99, [(OWNER, 99)]), yield_after_s=0)) as parts:
            await until(lambda: parts.gate.reasons == (Reason.GPU_BUSY,))
            await readings(parts, 5)
            assert parts.made_way == 0
