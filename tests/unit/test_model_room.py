"""Room for a model: which jobs may be taken, and when the gate closes for want of memory."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from common.reasons import Reason
from common.types import ModelId
from provider.gate.room import FULL_FOR_S, ModelRoom
from provider.gate.rounds import make_rounds
from provider.protocol.engine import ModelInfo
from provider.schedule import Schedule
from provider.settings import GateSettings
from tests.unit.provider_parts import Parts, gpu_at, model
from tests.unit.virtual_time import in_virtual_time

GIB = 2**30
SMALL, LARGE = ModelId("small"), ModelId("large")
FREE_10_GIB = gpu_at(0, memory_used_mib=14 * 1024, memory_total_mib=24 * 1024)


class Clock:
    """Seconds as the tests want them to pass."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("provider.gate.room.time.monotonic", clock)
    return clock


def room_for(*models: ModelInfo, **gate: Any) -> tuple[ModelRoom, Parts]:
    """Room on a GPU with 10 GiB free, as it was just read."""
    parts = Parts(FREE_10_GIB).open()
    parts.gpu._take(parts.gpu._read_once())
    parts.engine.now = replace(parts.engine.now, models=models)
    return ModelRoom(GateSettings(**gate), parts.gpu, parts.engine, parts.gate), parts


class TestFits:
    def test_weights_and_what_comes_on_top_must_fit(self) -> None:
        assert room_for(model("small", size_bytes=8 * GIB))[0].fits(SMALL)
        assert not room_for(model("large", size_bytes=9 * GIB))[0].fits(LARGE)

    def test_how_much_comes_on_top_can_be_set(self) -> None:
        assert room_for(model("large", size_bytes=9 * GIB), memory_factor=1.1)[0].fits(LARGE)

    def test_a_model_in_memory_needs_no_room(self) -> None:
        assert room_for(model("large", is_loaded=True, size_bytes=90 * GIB))[0].fits(LARGE)

    def test_nobody_looks_where_that_is_off(self) -> None:
        assert room_for(model("large", size_bytes=90 * GIB), check_memory=False)[0].fits(LARGE)

    def test_a_model_that_is_not_listed_is_left_to_the_engine(self) -> None:
        assert room_for()[0].fits(LARGE)

    def test_what_the_engine_could_unload_counts_while_nothing_runs(self) -> None:
        held = model("held", is_loaded=True, size_bytes=4 * GIB, gpu_bytes=5 * GIB)
        room, parts = room_for(held, model("large", size_bytes=12 * GIB))
        assert room.fits(LARGE)
        parts.slots.take()
        assert not room.fits(LARGE)


class TestFull:
    @pytest.mark.parametrize("is_loaded", [False, True])
    def test_a_model_that_found_no_memory_is_left_alone_for_a_while(self, clock: Clock, is_loaded: bool) -> None:
        room, _ = room_for(model("small", is_loaded=is_loaded, size_bytes=1), model("large", size_bytes=1))
        room.refuse(SMALL)
        assert (room.fits(SMALL), room.fits(LARGE)) == (False, True)
        clock.now_s += FULL_FOR_S - 1
        assert not room.fits(SMALL)
        clock.now_s += 1
        assert room.fits(SMALL)

    def test_a_while_is_half_a_minute(self) -> None:
        assert FULL_FOR_S == 30, "docs/provider.md says so"

    def test_memory_is_believed_to_be_short_even_where_it_is_not_looked_at(self) -> None:
        room, _ = room_for(model("small"), check_memory=False)
        room.refuse(SMALL)
        assert not room.fits(SMALL)


class TestGate:
    def test_it_closes_when_nothing_fits_and_opens_when_one_does(self) -> None:
        room, parts = room_for(model("large", size_bytes=90 * GIB), model("huge", size_bytes=99 * GIB))
        room.judge()
        assert parts.gate.reasons == (Reason.GPU_MEMORY,)
        parts.engine.now = replace(parts.engine.now, models=(*parts.engine.now.models, model("small", size_bytes=1)))
        room.judge()
        assert parts.gate.is_open

    def test_an_engine_without_models_is_not_out_of_memory(self) -> None:
        room, parts = room_for()
        room.judge()
        assert parts.gate.is_open


class TestRounds:
    def test_the_schedule_and_the_room_are_looked_at_time_and_again(self) -> None:
        room, parts = room_for(model("large", size_bytes=90 * GIB))
        hour = timedelta(hours=1)
        now = datetime.now(UTC)
        elsewhen = Schedule.parse([f"{now + 2 * hour:%H:%M}-{now + 4 * hour:%H:%M}"], "UTC")

        async def story() -> list[tuple[Reason, ...]]:
            seen = []
            rounds = asyncio.create_task(make_rounds(parts.gate, elsewhen, room))
            await asyncio.sleep(0.1)
            seen.append(parts.gate.reasons)
            parts.engine.now = replace(parts.engine.now, models=(model("small", size_bytes=1),))
            await asyncio.sleep(0.5)
            seen.append(parts.gate.reasons)
            rounds.cancel()
            await asyncio.gather(rounds, return_exceptions=True)
            return seen

        first, later = in_virtual_time(story())
        assert first == (Reason.GPU_MEMORY, Reason.OUTSIDE_SCHEDULE)
        assert later == (Reason.OUTSIDE_SCHEDULE,)

    def test_without_windows_every_hour_is_good(self) -> None:
        room, parts = room_for()

        async def story() -> None:
            rounds = asyncio.create_task(make_rounds(parts.gate, Schedule.parse([], ""), room))
            await asyncio.sleep(0.1)
            rounds.cancel()
            await asyncio.gather(rounds, return_exceptions=True)

        in_virtual_time(story())
        assert parts.gate.is_open
