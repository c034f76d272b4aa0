"""What a grid costs and how quick it is, by the number of its nodes.

uv run --group bench python -m bench.scale                       # 10, 100, 1,000 nodes: some five minutes
uv run --group bench python -m bench.scale --quick               # 10 and 100
uv run --group bench python -m bench.scale --only rest --plot docs/scaling/growth.png --json scale.json
"""

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvloop

from bench.scale.measurements import MODELS, Bench
from bench.scale.plot import plot
from bench.scale.site import Site
from common.process import GC_THRESHOLDS

TOLD = 130
"""The exit status after SIGTERM or SIGINT."""
PARTS = ("rest", "latency", "control", "fairness", "backlog", "reaper")


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for; all processes have ended when this returns."""
    found: dict[str, Any] = {"hubs": options.hubs, "models": len(MODELS), "at": []}
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        bench = Bench(site, options)
        try:
            await site.start(options.hubs)
            for nodes in options.nodes:
                found["at"].append(await bench.at(nodes, options.only))
                say(found["at"][-1])
            if "control" in options.only:
                few, most = options.nodes[0], options.nodes[-1]
                (Path(folder) / "other").mkdir()
                found["control"] = await bench.control(few, most - few, Path(folder) / "other")
                say(found["control"])
            if "backlog" in options.only:
                found["backlog"] = await bench.backlog(min(100, options.nodes[-1]))
                say(found["backlog"])
            if "reaper" in options.only:
                found["reaper"] = await bench.reaper(min(100, options.nodes[-1]))
                say(found["reaper"])
        finally:
            await site.stop()
    return found


def say(found: dict[str, Any]) -> None:
    """Show figures as they come."""
    print(json.dumps(found, indent=1, default=str), file=sys.stderr, flush=True)


def table(found: dict[str, Any]) -> str:
    """The figures by the number of nodes, as Markdown."""
    rows = [(name, [_at(one, path) for one in found["at"]]) for name, path in ROWS]
    head = "| nodes | " + " | ".join(f"{one['nodes']:,}" for one in found["at"]) + " |"
    lines = [head, "|---" * (len(found["at"]) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(values) + " |" for name, values in rows if any(v != "-" for v in values)]
    if control := found.get("control"):
        beside = f"{control['nodes']} nodes, {control['others']} of another grid beside them"
        lines += ["", f"| {beside} | |", "|---|---|"]
        lines += [f"| {name} | {_at(control, path)} |" for name, path in ROWS if _at(control, path) != "-"]
    return "\n".join(lines)


ROWS = (
    ("broker, commands/s at rest", "commands_per_s"),
    ("broker, % of a core", "broker_cpu%"),
    ("each hub, % of a core", "hub_cpu%"),
    ("one refresh of the view, ms", "refresh_ms"),
    ("broker out, KB/s", "broker_out_kb_s"),
    ("broker memory, MiB", "broker_used_mib"),
    ("hub memory, MiB", "hub_rss_mib"),
    ("admission p50, ms", "admission_ms.p50"),
    ("admission p99, ms", "admission_ms.p99"),
    ("hand-off p50, ms", "hand_off_ms.p50"),
    ("hand-off p99, ms", "hand_off_ms.p99"),
    ("busiest ÷ mean, half busy", "fairness.half_busy"),
    ("busiest ÷ mean, 4 jobs a slot", "fairness.queue_of_4_a_slot"),
    ("busiest ÷ mean, 1 job a node", "fairness.one_job_a_node"),
    ("a twice as quick node gets", "fairness.twice_as_quick_gets"),
)


def _at(one: dict[str, Any], path: str) -> str:
    value: Any = one
    for name in path.removesuffix("%").split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if value is None:
        return "-"
    return f"{value:.1%}" if path.endswith("%") else f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=_numbers, default=[10, 100, 1000])
    parser.add_argument("--hubs", type=int, default=4)
    parser.add_argument("--rest-s", type=float, default=20)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rate", type=float, default=20, help="requests a second for latencies")
    parser.add_argument("--queued", type=int, default=10_000)
    parser.add_argument("--only", type=lambda text: text.split(","), default=PARTS, help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="10 and 100 nodes, fewer of all")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.nodes, options.rest_s, options.requests, options.queued = [10, 100], 8, 100, 1000
    try:
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)  # as hubs do
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(_until_told(options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(TOLD)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    if options.plot:
        plot(found, options.plot)
    print(table(found))


def _numbers(text: str) -> list[int]:
    return [int(one) for one in text.split(",")]


async def _until_told(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; SIGTERM ends it as Ctrl-C does, and with it all that it started."""
    task = asyncio.ensure_future(measure(options))
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, task.cancel)
    try:
        return await task
    except (
        asyncio.CancelledError
    ):  # all processes have ended; requests by the thousand would still try to tell a broker
        os._exit(TOLD)


if __name__ == "__main__":
    main()
