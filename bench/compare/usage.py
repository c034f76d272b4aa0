"""What a system's processes used: CPU seconds and memory, over their whole tree."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SAMPLE_EVERY_S = 0.25
OUR_PARTS = {"hub": "hub", "provider": "provider", "ghub": "supervisor"}
"""What a process of ours is, by its module."""
MIB = 2**20


@dataclass
class Usage:
    """Of a stretch of time: CPU seconds and the largest resident memory (MiB) of each process, by what it is."""

    cpu_s: dict[str, float] = field(default_factory=dict)
    peak_mib: dict[str, float] = field(default_factory=dict)
    begin_mib: dict[str, float] = field(default_factory=dict)


class Meter:
    """Measures some processes and all their descendants from `start` to `stop`.

    Args:
        pids: of the roots.
        role: what a process is, from its command line; what has the same role is summed.
    """

    def __init__(self, pids: Sequence[int], role: Callable[[list[str]], str]) -> None:
        self._roots = [psutil.Process(pid) for pid in pids]
        self._role = role
        self._roles: dict[int, str] = {}
        self._usage = Usage()
        self._before: dict[int, float] = {}
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to measure."""
        self._before = {process.pid: _cpu_s(process) for process in self._processes()}
        self._usage.begin_mib = self._memory()
        self._thread = threading.Thread(target=self._watch, name="meter", daemon=True)
        self._thread.start()

    def stop(self) -> Usage:
        """What was used since `start`."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self._note_memory()
        for process in self._processes():
            role = self._role_of(process)
            used = _cpu_s(process) - self._before.get(process.pid, 0.0)
            self._usage.cpu_s[role] = self._usage.cpu_s.get(role, 0.0) + used
        return self._usage

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_EVERY_S):
            self._note_memory()

    def _note_memory(self) -> None:
        for role, mib in self._memory().items():
            self._usage.peak_mib[role] = max(self._usage.peak_mib.get(role, 0.0), mib)

    def _memory(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for process in self._processes():
            try:
                mib = process.memory_info().rss / MIB
            except psutil.Error:
                continue
            role = self._role_of(process)
            found[role] = found.get(role, 0.0) + mib
        return found

    def _processes(self) -> list[psutil.Process]:
        found: dict[int, psutil.Process] = {}
        for root in self._roots:
            try:
                found |= {process.pid: process for process in [root, *root.children(recursive=True)]}
            except psutil.Error:
                continue
        return list(found.values())

    def _role_of(self, process: psutil.Process) -> str:
        if process.pid not in self._roles:
            try:
                self._roles[process.pid] = self._role(process.cmdline())
            except psutil.Error:
                return "gone"
        return self._roles[process.pid]


def role_of(argv: list[str]) -> str:
    """What a process is: a part of ours by its name, else the program."""
    module = argv[argv.index("-m") + 1] if "-m" in argv[:-1] else ""
    if module in OUR_PARTS:
        return OUR_PARTS[module]
    program = Path(argv[0]).name if argv else ""
    return "broker" if "valkey" in program or "redis" in program else program


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)
