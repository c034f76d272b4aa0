"""The growth from few nodes to many, as a picture."""

from pathlib import Path
from typing import Any


def plot(found: dict[str, Any], path: Path) -> None:
    """Draw commands, CPU and latencies over the number of nodes."""
    import matplotlib as mpl  # noqa: PLC0415 - only where a picture is wanted

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    nodes = [one["nodes"] for one in found["at"]]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8), constrained_layout=True)
    left.plot(nodes, [one["commands_per_s"] for one in found["at"]], "o-", label=f"measured, {found['hubs']} hubs")
    left.axhline(3000, color="tab:red", linestyle=":", label="goal at 1,000 nodes")
    left.set(title="Broker at rest", ylabel="commands/s", yscale="log")
    middle.plot(nodes, [100 * one["hub_cpu"] for one in found["at"]], "o-", label="each hub")
    middle.plot(nodes, [100 * one["broker_cpu"] for one in found["at"]], "s-", label="broker")
    middle.set(title="CPU at rest", ylabel="% of a core")
    for name, label, mark in (("admission_ms", "admission", "o"), ("hand_off_ms", "hand-off", "s")):
        for part, style in (("p50", "-"), ("p99", ":")):
            values = [one[name][part] for one in found["at"]]
            right.plot(nodes, values, mark + style, label=f"{label} {part}")
    right.set(title="A request while all are idle", ylabel="ms", yscale="log")
    for one in (left, middle, right):
        one.set(xscale="log", xlabel="nodes")
        one.grid(visible=True, which="major", alpha=0.3)
        one.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
