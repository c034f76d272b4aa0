"""The supervisor, with tiny children: what it starts, restarts, gives up and ends."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from ghub.errors import StackFailed
from ghub.processes.child import Part
from ghub.processes.events import Died, Event, Healthy, Killed, Started
from ghub.processes.keeper import Limits
from ghub.processes.supervisor import Supervisor

QUICK = Limits(backoff_first_s=0.02, backoff_most_s=0.1, probe_gap_s=0.01)
IDLE = "import signal; print('up', flush=True); signal.pause()"
STUBBORN = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\nwhile 1: signal.pause()"
)


class Stage:
    """A supervisor under test, and what it reported."""

    def __init__(self, log_dir: Path) -> None:
        self.log_dir = log_dir
        self.events: list[Event] = []
        self._news = asyncio.Condition()
        self._notices: set[asyncio.Task[None]] = set()
        self.supervisor: Supervisor | None = None

    def __call__(self, *parts: Part, limits: Limits = QUICK) -> Supervisor:
        self.supervisor = Supervisor(parts, log_dir=self.log_dir, report=self.report, limits=limits)
        self.supervisor.start()
        return self.supervisor

    def report(self, event: Event) -> None:
        self.events.append(event)
        notice = asyncio.ensure_future(self._notify())
        self._notices.add(notice)
        notice.add_done_callback(self._notices.discard)

    async def _notify(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def until(self, kind: type[Any], name: str, count: int = 1) -> Any:
        """Wait for the count-th event of a kind about a part."""

        def matching() -> list[Event]:
            return [event for event in self.events if isinstance(event, kind) and event.part.name == name]

        async with self._news, asyncio.timeout(20):
            await self._news.wait_for(lambda: len(matching()) >= count)
        return matching()[count - 1]

    def printed(self, name: str) -> bool:
        log = self.log_dir / f"{name}.log"
        return log.exists() and bool(log.read_bytes())


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    if stage.supervisor is not None:
        stage.supervisor.hurry()
        await stage.supervisor.stop()
    pids = [event.pid for event in stage.events if isinstance(event, Started)]
    assert not [pid for pid in pids if is_alive(pid)]


def is_alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def until_gone(pid: int) -> None:
    """Wait for a process that is no child of this one."""
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(timeout=10)


def python(name: str, code: str, **more: Any) -> Part:
    return Part(name=name, argv=(sys.executable, "-I", "-S", "-c", code), **more)


def when_printed(stage: Stage, name: str) -> Callable[[], Any]:
    async def probe() -> bool:
        return stage.printed(name)

    return probe


async def test_a_dead_child_is_reported_with_reason_and_last_line_and_runs_again(stage: Stage) -> None:
    supervisor = stage(python("flaky", IDLE, probe=when_printed(stage, "flaky")))
    await stage.until(Healthy, "flaky")
    supervisor.mark_ready()

    os.kill((await stage.until(Started, "flaky")).pid, signal.SIGKILL)

    died = await stage.until(Died, "flaky")
    assert died.why == "killed by SIGKILL"
    assert died.last_lines == ["up"]
    assert 0 < died.restart_in_s <= 0.02
    await stage.until(Healthy, "flaky", count=2)
    assert supervisor.unhealthy() == []


async def test_pauses_between_restarts_grow_to_their_limit(stage: Stage) -> None:
    stage(python("broken", "raise SystemExit(7)")).mark_ready()

    pauses_s = [(await stage.until(Died, "broken", count)).restart_in_s for count in range(1, 7)]

    assert pauses_s[0] <= 0.02 < pauses_s[3] <= 0.1
    assert max(pauses_s) <= 0.1


async def test_deaths_are_forgotten_after_a_time_of_health(stage: Stage) -> None:
    forgiving = Limits(backoff_first_s=0.02, backoff_most_s=10, probe_gap_s=0.01, stable_after_s=0)
    stage(python("broken", "print('up')"), limits=forgiving).mark_ready()

    pauses_s = [(await stage.until(Died, "broken", count)).restart_in_s for count in range(1, 8)]

    assert max(pauses_s) <= 0.02


async def failure_of(supervisor: Supervisor) -> StackFailed:
    with pytest.raises(StackFailed) as caught:
        await supervisor.until(asyncio.Event())
    return caught.value


async def test_a_part_that_never_gets_up_is_given_up_with_its_reason(stage: Stage) -> None:
    supervisor = stage(
        python("good", IDLE), python("broken", "import sys; sys.stderr.write('no such model\\n'); sys.exit(3)")
    )

    failure = await failure_of(supervisor)

    assert str(failure) == "broken does not start (exit code 3): no such model"
    deaths = [event for event in stage.events if isinstance(event, Died)]
    assert len(deaths) == QUICK.deaths_before_ready
    assert deaths[-1].restart_in_s is None


async def test_a_fatal_exit_code_is_given_up_at_once(stage: Stage) -> None:
    part = python("hub", "raise SystemExit(2)", fatal_exit_codes=frozenset({2}))

    failure = await failure_of(stage(part))

    assert "exit code 2" in str(failure)
    assert len([event for event in stage.events if isinstance(event, Started)]) == 1


async def test_a_program_that_cannot_run_says_which(stage: Stage) -> None:
    failure = await failure_of(stage(Part(name="ghost", argv=("/no/such/program",))))

    assert "/no/such/program: No such file or directory" in str(failure)


async def test_a_log_that_cannot_be_written_ends_the_stack(stage: Stage) -> None:
    (stage.log_dir / "odd.log").touch()
    (stage.log_dir / "odd.log.1").mkdir()

    failure = await failure_of(stage(python("odd", IDLE)))

    assert str(failure).startswith("odd: ")


async def test_a_part_starts_when_what_it_needs_is_healthy(stage: Stage) -> None:
    gate = asyncio.Event()

    async def gate_is_open() -> bool:
        return gate.is_set()

    supervisor = stage(python("second", IDLE, needs=("first",)), python("first", IDLE, probe=gate_is_open))
    await stage.until(Started, "first")
    assert [part.name for part in supervisor.unhealthy()] == ["second", "first"]
    gate.set()
    await stage.until(Started, "second")

    order = [(type(event), event.part.name) for event in stage.events]
    assert order.index((Healthy, "first")) < order.index((Started, "second"))


async def test_parts_end_in_the_order_of_their_turns(stage: Stage, tmp_path: Path) -> None:
    ends = tmp_path / "ends"
    code = (
        "import signal, sys\n"
        "def end(*_):\n  open({path!r}, 'a').write('{name} '); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); print('up', flush=True)\n"
        "while 1: signal.pause()"
    )
    turns = {"broker": 3, "hub": 0, "engine": 2, "provider": 1}
    supervisor = stage(
        *(
            python(name, code.format(path=str(ends), name=name), stop_turn=turn, probe=when_printed(stage, name))
            for name, turn in turns.items()
        )
    )
    for name in turns:
        await stage.until(Healthy, name)

    await supervisor.stop()

    assert ends.read_text().split() == ["hub", "provider", "engine", "broker"]
    assert not [event for event in stage.events if isinstance(event, Died | Killed)]


async def test_a_child_that_ignores_sigterm_is_killed_after_its_limit(stage: Stage) -> None:
    supervisor = stage(python("deaf", STUBBORN, probe=when_printed(stage, "deaf"), stop_timeout_s=0.1))
    pid = (await stage.until(Started, "deaf")).pid
    await stage.until(Healthy, "deaf")

    await supervisor.stop()

    assert isinstance(stage.events[-1], Killed)
    assert not is_alive(pid)


async def test_hurry_kills_at_once_what_is_still_ending(stage: Stage) -> None:
    supervisor = stage(python("deaf", STUBBORN, probe=when_printed(stage, "deaf"), stop_timeout_s=3600))
    await stage.until(Healthy, "deaf")

    stopping = asyncio.create_task(supervisor.stop())
    await asyncio.sleep(0)
    supervisor.hurry()
    async with asyncio.timeout(10):
        await stopping

    assert isinstance(stage.events[-1], Killed)


async def test_grandchildren_go_with_their_parent(stage: Stage) -> None:
    code = (
        "import signal, subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {STUBBORN!r}], stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
        "signal.pause()"
    )
    supervisor = stage(python("parent", code, probe=when_printed(stage, "parent")))
    await stage.until(Healthy, "parent")
    grandchild = int((stage.log_dir / "parent.log").read_text().split()[0])

    await supervisor.stop()

    until_gone(grandchild)
    assert not is_alive(grandchild)


async def test_stopping_in_the_middle_of_a_pause_or_a_start_leaves_nothing(stage: Stage) -> None:
    slow = Limits(backoff_first_s=3600, backoff_most_s=3600)
    supervisor = stage(
        python("dead", "raise SystemExit(1)"), python("waiting", IDLE, needs=("dead2",)),
        python("dead2", IDLE, probe=lambda: asyncio.sleep(0, result=False)), limits=slow,
    )  # fmt: skip
    await stage.until(Died, "dead")

    async with asyncio.timeout(10):
        await supervisor.stop()

    assert "waiting" not in {event.part.name for event in stage.events}


async def test_the_log_of_the_run_before_is_kept(stage: Stage) -> None:
    (stage.log_dir / "flaky.log").write_text("old\n")
    stage(python("flaky", IDLE, probe=when_printed(stage, "flaky")))
    await stage.until(Healthy, "flaky")

    assert (stage.log_dir / "flaky.log.1").read_text() == "old\n"
    assert (stage.log_dir / "flaky.log").read_text() == "up\n"


@pytest.mark.parametrize("mode", ["prctl", "pipe"])
def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path, mode: str) -> None:
    if mode == "prctl" and sys.platform != "linux":
        pytest.skip("prctl is Linux only")
    script = f"""
import asyncio, pathlib
from ghub.processes import child
from ghub.processes.supervisor import Supervisor
child._DEATH_MODE = {mode!r}
async def main():
    parts = [child.Part(name=name, argv=({sys.executable!r}, "-I", "-S", "-c", {STUBBORN!r})) for name in "ab"]
    report = lambda event: print(getattr(event, "pid", ""), flush=True)
    Supervisor(parts, log_dir=pathlib.Path({str(tmp_path)!r}), report=report).start()
    await asyncio.Event().wait()
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        pids: list[int] = []
        while len(pids) < 2:
            line = supervisor.stdout.readline()
            assert line, "the supervisor ended by itself"
            pids += [int(line)] if line.strip() else []
        deadline = time.monotonic() + 20
        while not all((tmp_path / f"{name}.log").read_bytes() for name in "ab"):
            assert time.monotonic() < deadline
        supervisor.kill()
    for pid in pids:
        until_gone(pid)
        assert not is_alive(pid)
