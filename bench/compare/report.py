"""Tables of a comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Values = Mapping[str, float]
Cells = Mapping[tuple[str, str], Values]
"""Medians by system and workload."""


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
FAULTS = ("errors", "lost", "repeated", "disordered")


def tables(cells: Cells, systems: Sequence[str]) -> str:
    """Markdown: a table for each kind of workload, a row for each system and size."""
    parts = [_table(one, cells, systems) for one in TABLES]
    return "\n\n".join(part for part in parts if part)


def _table(table: Table, cells: Cells, systems: Sequence[str]) -> str:
    names = sorted({name for _, name in cells if name.partition("-")[0] == table.kind}, key=_size)
    if not names:
        return ""
    headings = ["streams", "system", *table.columns, "errors, lost, repeated"]
    lines = [f"### {table.title}", "", row(headings), row(["---:", "---", *["---:"] * (len(headings) - 2)])]
    for name in names:
        for system in systems:
            if (values := cells.get((system, name))) is None:
                continue
            shown = [format(values[value], form) if values["events"] else "-" for value, form in table.columns.values()]
            faults = [f"{values[one]:.0f} {one}" for one in FAULTS if values[one]]
            lines.append(row([str(_size(name)), system, *shown, ", ".join(faults) or "none"]))
    return "\n".join(lines)


def row(cells: Sequence[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def _size(name: str) -> int:
    return int(name.rpartition("-")[2])
