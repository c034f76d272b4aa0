"""Plots of a comparison, as PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cells = Mapping[tuple[str, str], Mapping[str, float]]

_COLOURS = {
    "direct": "#9e9e9e",
    "nginx": "#2e7d32",
    "vllm-router": "#6a1b9a",
    "Portkey": "#ef6c00",
    "LiteLLM": "#c62828",
    "GhubAi": "#1565c0",
}
_PARTS = {"hub": "#1565c0", "provider": "#64b5f6", "broker": "#90a4ae", "supervisor": "#cfd8dc"}


def draw(cells: Cells, systems: Sequence[str], folder: Path) -> list[Path]:
    """Write the plots into a folder; which were written."""
    import matplotlib as mpl  # noqa: PLC0415 - only those who draw need it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    plt.rcParams.update({"font.size": 10, "axes.grid": True, "grid.alpha": 0.3, "figure.dpi": 120})
    return [
        _cost_by_load(plt, cells, systems, folder / "cost-by-load.png"),
        _burst(plt, cells, systems, folder / "burst.png"),
        _parts(plt, cells, folder / "parts.png"),
    ]


def _cost_by_load(plt: ModuleType, cells: Cells, systems: Sequence[str], path: Path) -> Path:
    figure, axes = plt.subplots(figsize=(7, 4.2))
    for system in systems:
        line = _line(cells, system, "paced", "cpu_s_per_100k")
        if any(y for _, y in line):
            axes.plot(*zip(*line, strict=True), marker="o", label=system, color=_COLOURS.get(system))
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="streams at once, an event every 20 ms",
        ylabel="CPU-seconds per 100,000 events",
        title="Cost of an event against load",
    )
    sizes = _sizes(cells, "paced")
    axes.set_xticks(sizes, [str(one) for one in sizes])
    axes.legend()
    return _saved(plt, figure, path)


def _burst(plt: ModuleType, cells: Cells, systems: Sequence[str], path: Path) -> Path:
    sizes = _sizes(cells, "burst")
    figure, axes = plt.subplots(figsize=(7, 4.2))
    shown = [one for one in systems if one != "direct"]
    width = 0.8 / max(1, len(shown))
    for nth, system in enumerate(shown):
        values = [cells.get((system, f"burst-{size}"), {}).get("events_per_s", 0.0) for size in sizes]
        places = [at + nth * width for at in range(len(sizes))]
        axes.bar(places, values, width, label=system, color=_COLOURS.get(system))
    axes.set(yscale="log", ylabel="events/s", title="Streams of 128 events without a pause")
    axes.set_xticks(
        [at + 0.4 - width / 2 for at in range(len(sizes))], [f"{size} stream{'s' * (size > 1)}" for size in sizes]
    )
    axes.legend(ncols=3, loc="lower center")
    return _saved(plt, figure, path)


def _parts(plt: ModuleType, cells: Cells, path: Path) -> Path:
    names = [f"{kind}-{size}" for kind in ("burst", "paced") for size in _sizes(cells, kind)]
    figure, axes = plt.subplots(figsize=(7, 4.2))
    below = [0.0] * len(names)
    for part, colour in _PARTS.items():
        values = [cells.get(("GhubAi", name), {}).get(f"cpu_s_per_100k {part}", 0.0) for name in names]
        axes.bar(names, values, bottom=below, label=part, color=colour)
        below = [one + more for one, more in zip(below, values, strict=True)]
    axes.set(ylabel="CPU-seconds per 100,000 events", title="GhubAi: who spends it")
    axes.tick_params(axis="x", rotation=30)
    axes.legend()
    return _saved(plt, figure, path)


def _line(cells: Cells, system: str, kind: str, value: str) -> list[tuple[int, float]]:
    sizes = [size for size in _sizes(cells, kind) if (system, f"{kind}-{size}") in cells]
    return [(size, cells[system, f"{kind}-{size}"][value]) for size in sizes]


def _sizes(cells: Cells, kind: str) -> list[int]:
    return sorted({int(name.rpartition("-")[2]) for _, name in cells if name.startswith(f"{kind}-")})


def _saved(plt: ModuleType, figure: "Figure", path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
    return path
