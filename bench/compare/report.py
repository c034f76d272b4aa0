"""Tables of a comparison, and whether what was promised of it is so."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bench.compare.workloads import BY_NAME

Values = Mapping[str, float]
Cells = Mapping[tuple[str, str], Values]
"""Medians by system and workload."""

OURS, LITELLM, ROUTER, PORTKEY, DIRECT = "GhubAi", "LiteLLM", "vllm-router", "Portkey", "direct"


@dataclass(frozen=True)
class Table:
    """One kind of workload, and what is shown of it."""

    title: str
    kind: str
    columns: Mapping[str, tuple[str, str]]
    """Value and format, by heading."""


TABLES = (
    Table(
        "W1: short calls, not streamed",
        "short",
        {
            "req/s": ("requests_per_s", ",.0f"),
            "CPU ms per request": ("cpu_ms_per_request", ".3f"),
            "answer ms": ("first_ms", ".2f"),
            "p99 ms": ("first_p99_ms", ".1f"),
        },
    ),
    Table(
        "W2: streams of 128 events without a pause",
        "burst",
        {
            "events/s": ("events_per_s", ",.0f"),
            "CPU-s per 100,000 events": ("cpu_s_per_100k", ".2f"),
            "first event ms": ("first_ms", ".2f"),
        },
    ),
    Table(
        "W3: streams of 100 events, 20 ms apart (1.98 s)",
        "paced",
        {
            "took s": ("seconds", ".2f"),
            "CPU-s per 100,000 events": ("cpu_s_per_100k", ".2f"),
            "gap p99 ms": ("gap_p99_ms", ".1f"),
            "event latency ms": ("latency_p50_ms", ".2f"),
            "first event ms": ("first_ms", ".1f"),
            "memory MiB": ("peak_mib", ".0f"),
        },
    ),
)
_FAULTS = ("errors", "lost", "repeated", "disordered")


def tables(cells: Cells, systems: Sequence[str]) -> str:
    """Markdown: a table for each kind of workload, a row for each system and size."""
    parts = [_table(one, cells, systems) for one in TABLES]
    return "\n\n".join(part for part in parts if part)


def _table(table: Table, cells: Cells, systems: Sequence[str]) -> str:
    names = sorted({name for _, name in cells if name.partition("-")[0] == table.kind}, key=_size)
    if not names:
        return ""
    headings = ["streams", "system", *table.columns, "errors, lost, repeated"]
    lines = [f"### {table.title}", "", _row(headings), _row(["---:", "---", *["---:"] * (len(headings) - 2)])]
    for name in names:
        for system in systems:
            if (values := cells.get((system, name))) is None:
                continue
            shown = [format(values[value], form) if values["events"] else "-" for value, form in table.columns.values()]
            faults = [f"{values[one]:.0f} {one}" for one in _FAULTS if values[one]]
            lines.append(_row([str(_size(name)), system, *shown, ", ".join(faults) or "none"]))
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _size(name: str) -> int:
    return int(name.rpartition("-")[2])


@dataclass(frozen=True)
class Verdict:
    """A promise and what was measured."""

    promise: str
    measured: str
    is_kept: bool | None
    """None: what it is compared with was not measured."""


def verdicts(cells: Cells) -> list[Verdict]:
    """What is promised of the way through the grid, one by one."""

    def ratio(value: str, workload: str, to: str, to_workload: str = "") -> float | None:
        mine, other = cells.get((OURS, workload)), cells.get((to, to_workload or workload))
        return mine[value] / other[value] if mine and other and other[value] else None

    def mine(value: str, workload: str) -> float | None:
        return cells[OURS, workload][value] if (OURS, workload) in cells else None

    def added(value: str, system: str, workload: str) -> float | None:
        one, bare = cells.get((system, workload)), cells.get((DIRECT, workload))
        return one[value] - bare[value] if one and bare else None

    found: list[Verdict] = []

    def say(promise: str, measured: float | None, is_kept: Callable[[float], bool], form: str = ".2f") -> None:
        shown = "not measured" if measured is None else format(measured, form)
        found.append(Verdict(promise, shown, None if measured is None else is_kept(measured)))

    for size in (16, 64):
        name = f"burst-{size}"
        say(f"{name}: events/s at least 50 x LiteLLM's", ratio("events_per_s", name, LITELLM), lambda x: x >= 50, ".0f")
        say(f"{name}: events/s at least 0.5 x vllm-router's", ratio("events_per_s", name, ROUTER), lambda x: x >= 0.5)
        say(
            f"{name}: CPU an event at most 1/40 of LiteLLM's",
            ratio("cpu_s_per_100k", name, LITELLM),
            lambda x: x <= 1 / 40,
            ".4f",
        )
        say(f"{name}: CPU an event at most 2 x vllm-router's", ratio("cpu_s_per_100k", name, ROUTER), lambda x: x <= 2)
    for name in ("paced-200", "paced-500"):
        faults = None if (OURS, name) not in cells else sum(cells[OURS, name][one] for one in _FAULTS)
        say(f"{name}: no error, no event lost or repeated", faults, lambda x: x == 0, ".0f")
    say("paced-200: gap p99 under 40 ms", mine("gap_p99_ms", "paced-200"), lambda x: x < 40, ".1f")
    say(
        "paced-200: CPU an event at most 1/9 of LiteLLM's at 50",
        ratio("cpu_s_per_100k", "paced-200", LITELLM, "paced-50"),
        lambda x: x <= 1 / 9,
        ".3f",
    )
    took = mine("seconds", "paced-500")
    say(
        "paced-500: within 1.15 x nominal time",
        took and took / BY_NAME["paced-500"].nominal_s,
        lambda x: x <= 1.15,
    )
    say(
        "paced-500: CPU an event at most 1/14 of LiteLLM's at 50",
        ratio("cpu_s_per_100k", "paced-500", LITELLM, "paced-50"),
        lambda x: x <= 1 / 14,
        ".3f",
    )
    first, theirs = added("first_ms", OURS, "burst-1"), added("first_ms", LITELLM, "burst-1")
    say("burst-1: added time to first event under 3 ms", first, lambda x: x < 3)
    say(
        "burst-1: added time to first event at most 1/5 of LiteLLM's",
        first / theirs if first is not None and theirs else None,
        lambda x: x <= 0.2,
    )
    say(
        "paced-200: added latency of an event under 2.5 ms",
        added("latency_p50_ms", OURS, "paced-200"),
        lambda x: x < 2.5,
    )
    say(
        "short-16: requests/s at least 20 x LiteLLM's",
        ratio("requests_per_s", "short-16", LITELLM),
        lambda x: x >= 20,
        ".1f",
    )
    say("short-16: requests/s more than Portkey's", ratio("requests_per_s", "short-16", PORTKEY), lambda x: x > 1)
    costs = [mine("cpu_s_per_100k", f"paced-{size}") for size in (50, 200, 500)]
    falls = None if None in costs else max((b or 0) / (a or 1) for a, b in pairwise(costs))
    say("CPU an event falls from 50 to 200 to 500 streams: the worst step", falls, lambda x: x < 1)
    memory = mine("growth_mib hub", "paced-500")
    say(
        "paced-500: hub memory under 60 KB per open stream",
        memory and memory * 2**20 / 1000 / 500,
        lambda x: x < 60,
        ".0f",
    )
    say(
        "burst-1: from the client's request to the engine's start, median under 1.5 ms",
        mine("inbound_ms", "burst-1"),
        lambda x: x < 1.5,
    )
    return found


def verdict_table(found: Sequence[Verdict]) -> str:
    """Markdown."""
    words = {True: "yes", False: "**no**", None: "-"}
    lines = [_row(["promise", "measured", "kept"]), _row(["---", "---:", "---"])]
    return "\n".join([*lines, *(_row([one.promise, one.measured, words[one.is_kept]]) for one in found)])
