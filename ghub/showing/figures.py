"""Figures as people read them: short, with their unit."""

from collections.abc import Mapping
from typing import Any

NONE = "-"


def duration(ms: float | None) -> str:
    """A span of time, to two places at most: `0.4 s`, `12 s`, `3 min`, `2 h`, `5 d`."""
    if ms is None:
        return NONE
    seconds = max(0.0, ms / 1000)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    for unit, size, most in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48)):
        if seconds < most * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def latency(ms: float) -> str:
    """A short wait, in ms up to a second."""
    return f"{ms:.0f} ms" if ms < 1000 else duration(ms)


def rate(per_s: float | None) -> str:
    """Events a second."""
    if per_s is None:
        return NONE
    return f"{per_s:.1f}" if per_s < 99.95 else f"{per_s:,.0f}"


def count(number: float | None) -> str:
    """A number with commas; from a million on in millions."""
    if number is None:
        return NONE
    return f"{number:,.0f}" if number < 1_000_000 else f"{number / 1_000_000:,.1f} M"


def memory(gpu: Mapping[str, Any]) -> str:
    """Used and whole memory of a GPU; empty if it doesn't tell."""
    used, total = gpu.get("memory_used_mib"), gpu.get("memory_total_mib")
    if used is None or not total:
        return ""
    return f"{used / 1024:.1f}/{total / 1024:.1f} GiB"


def short_gpu_name(gpu: Mapping[str, Any]) -> str:
    """Its name without its maker's: `RTX 4090`."""
    return str(gpu.get("name") or "GPU").removeprefix("NVIDIA ").removeprefix("GeForce ")


def gpu_in_words(gpu: Mapping[str, Any]) -> str:
    """A GPU in a line: its name, how busy it is and what of its memory is taken, as far as it tells."""
    load = gpu.get("utilization_pct")
    words = [short_gpu_name(gpu), "" if load is None else f"{load:.0f} %", memory(gpu)]
    return " ".join(filter(None, words))
