"""Root tasks that are named and watched, and waits that a stop cuts short."""

import asyncio
from contextlib import suppress
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.tasks import Crew, backoff_s, keep_trying, wait_or_stop
from tests.unit.virtual_time import in_virtual_time, now_s


class TestBackoff:
    @given(st.floats(0.01, 1), st.floats(1, 60))
    def test_each_wait_lies_between_half_and_the_whole_of_its_step(self, first_s: float, most_s: float) -> None:
        step = first_s
        for pause in islice(backoff_s(first_s, most_s), 20):
            assert step / 2 <= pause <= step <= most_s
            step = min(step * 2, most_s)

    def test_waits_differ_so_that_a_grid_does_not_return_in_step(self) -> None:
        assert len({tuple(islice(backoff_s(1, 8), 3)) for _ in range(20)}) > 15

    def test_they_never_end(self) -> None:
        assert len([*islice(backoff_s(0.1, 5), 10_000)]) == 10_000


class TestKeepTrying:
    def test_it_goes_on_until_the_work_is_done(self) -> None:
        tries = [OSError("one"), OSError("two"), "done"]
        assert in_virtual_time(_tried(tries, limit_s=1000)) == "done"
        assert tries == []

    def test_past_its_limit_it_raises_what_happened_last(self) -> None:
        async def story() -> float:
            with pytest.raises(OSError, match="away"):
                await _tried([OSError("away")] * 100, limit_s=10)
            return now_s()

        assert 10 < in_virtual_time(story()) <= 14

    def test_another_error_is_not_tried_again(self) -> None:
        tries = [ValueError("no"), "done"]
        with pytest.raises(ValueError, match="no"):
            in_virtual_time(_tried(tries, limit_s=1000))
        assert tries == ["done"]


async def _tried(tries: list[object], limit_s: float) -> object:
    async def work() -> object:
        outcome = tries.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return await keep_trying(work, OSError, first_s=1, most_s=4, limit_s=limit_s)


class TestWaitOrStop:
    async def test_time_passes_when_nobody_stops(self) -> None:
        assert not await wait_or_stop(asyncio.Event(), 0.01)

    async def test_a_stop_ends_a_long_wait_at_once(self) -> None:
        stop = asyncio.Event()
        waiting = asyncio.create_task(wait_or_stop(stop, 1000))
        asyncio.get_running_loop().call_soon(stop.set)
        assert await asyncio.wait_for(waiting, 1)

    async def test_a_stop_from_before_ends_it_too(self) -> None:
        stop = asyncio.Event()
        stop.set()
        assert await asyncio.wait_for(wait_or_stop(stop, 1000), 1)


class TestCrew:
    async def test_a_stop_is_no_failure_and_ends_all(self) -> None:
        crew = Crew()
        ended: list[str] = []
        for name in ("one", "two"):
            crew.start(name, _until_cancelled(ended, name))
        stop = asyncio.Event()
        watching = asyncio.create_task(crew.until(stop))
        await _rounds(3)
        assert not watching.done()
        stop.set()
        await asyncio.wait_for(watching, 1)
        assert ended == []
        await asyncio.wait_for(crew.stop(), 1)
        assert sorted(ended) == ["one", "two"]

    async def test_a_task_that_dies_is_named_with_its_reason(self) -> None:
        crew = Crew()
        crew.start("steady", _until_cancelled([], "steady"))
        crew.start("broken", _fail(ValueError("no luck")))
        with pytest.raises(RuntimeError, match=r"'broken' ended: ValueError\('no luck'\)") as death:
            await asyncio.wait_for(crew.until(asyncio.Event()), 1)
        assert isinstance(death.value.__cause__, ValueError)
        await crew.stop()

    async def test_a_task_that_just_ends_is_named_too(self) -> None:
        crew = Crew()
        crew.start("lazy", asyncio.sleep(0))
        with pytest.raises(RuntimeError, match="'lazy' ended"):
            await asyncio.wait_for(crew.until(asyncio.Event()), 1)
        await crew.stop()

    async def test_some_can_be_stopped_before_the_others(self) -> None:
        crew = Crew()
        ended: list[str] = []
        for name in ("first", "second"):
            crew.start(name, _until_cancelled(ended, name))
        await _rounds(1)
        await asyncio.wait_for(crew.stop("first", "unknown"), 1)
        assert ended == ["first"]
        await crew.stop()
        assert ended == ["first", "second"]
        await crew.stop()

    async def test_one_that_lost_its_cancellation_is_told_again(self) -> None:
        """As a task does that was sending to the broker just then, before Python 3.12."""
        crew = Crew()
        ended: list[str] = []
        crew.start("deaf", _deaf_once(ended))
        await _rounds(1)
        await asyncio.wait_for(crew.stop(), 10)
        assert ended == ["deaf"]

    async def test_one_that_fails_while_it_stops_does_not_keep_the_others(self) -> None:
        crew = Crew()
        ended: list[str] = []
        crew.start("sore", _fail_on_cancel())
        crew.start("calm", _until_cancelled(ended, "calm"))
        await _rounds(1)
        await asyncio.wait_for(crew.stop(), 1)
        assert ended == ["calm"]

    async def test_work_beside_it_gives_its_result_unless_the_stop_comes_first(self) -> None:
        crew = Crew()
        ended: list[str] = []
        crew.start("steady", _until_cancelled([], "steady"))
        stop = asyncio.Event()
        assert await asyncio.wait_for(crew.beside(asyncio.sleep(0, "done"), stop), 1) == "done"
        endless = asyncio.create_task(crew.beside(_until_cancelled(ended, "endless"), stop))
        await _rounds(3)
        stop.set()
        assert await asyncio.wait_for(endless, 1) is None
        assert ended == ["endless"]
        await crew.stop()

    async def test_work_beside_it_fails_by_itself_or_with_one_of_the_crew(self) -> None:
        crew = Crew()
        with pytest.raises(ValueError, match="its own"):
            await asyncio.wait_for(crew.beside(_fail(ValueError("its own")), asyncio.Event()), 1)
        ended: list[str] = []
        crew.start("broken", _fail(ValueError("no luck")))
        with pytest.raises(RuntimeError, match="'broken' ended"):
            await asyncio.wait_for(crew.beside(_until_cancelled(ended, "endless"), asyncio.Event()), 1)
        assert ended == ["endless"]
        await crew.stop()

    async def test_waits_for_one_that_ends_by_itself_but_not_for_ever(self) -> None:
        crew = Crew()
        ended: list[str] = []
        gate = asyncio.Event()
        crew.start("server", _after(gate, ended))
        await crew.wait("server", 0.01)
        assert ended == []
        gate.set()
        await crew.wait("server", 1)
        assert ended == ["server"]
        await crew.wait("unknown", 1)
        await crew.stop()


async def _until_cancelled(ended: list[str], name: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append(name)


async def _deaf_once(ended: list[str]) -> None:
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    await _until_cancelled(ended, "deaf")


async def _fail(error: Exception) -> None:
    raise error


async def _fail_on_cancel() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise ValueError("on the way out")


async def _after(gate: asyncio.Event, ended: list[str]) -> None:
    await gate.wait()
    ended.append("server")


async def _rounds(count: int) -> None:
    """Let every task that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)
