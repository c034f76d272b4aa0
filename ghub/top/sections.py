"""The three lists of the screen: nodes with their GPUs, queues, running requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.text import Text

from common.reasons import NO_FREE_SLOT, Reason, short_words_of
from ghub.live.following import Seen
from ghub.showing.figures import count, duration, memory, rate, short_gpu_name
from ghub.showing.tables import plain
from ghub.top.bars import bar
from ghub.top.view import WIDE, WIDEST, View

STATES = {"idle": "green", "busy": "cyan", "draining": "yellow", "paused": "magenta"}
ID_CHARS = 8
UNSAID = (Reason.DRAINING, Reason.PAUSED, NO_FREE_SLOT)
"""Reasons that the state and the slots tell."""
FULL_PCT = 90


@dataclass(frozen=True, slots=True)
class Heading:
    """One column."""

    name: str
    justify: Literal["left", "right"] = "left"
    is_flexible: bool = False
    """Whether its texts are cut where there is no room for all."""


def _cut(*names: str) -> list[Heading]:
    """Columns whose texts may be cut."""
    return [Heading(name, is_flexible=True) for name in names]


def _fixed(*names: str, justify: Literal["left", "right"] = "left") -> list[Heading]:
    """Columns that stay whole."""
    return [Heading(name, justify) for name in names]


@dataclass(frozen=True, slots=True)
class Section:
    """A list, whole; who draws it cuts it."""

    columns: Sequence[Heading]
    rows: Sequence[Sequence[Text]]


def nodes_section(seen: Seen, view: View) -> Section:
    """Every node; one with several GPUs has a line for each."""
    is_wide = view.width >= WIDE
    size = 20 if view.width >= WIDEST else 10 if is_wide else 6
    more = [*_fixed("TEMP", "POWER", justify="right")] if is_wide else []
    columns = [*_cut("NODE"), *_fixed("STATE", "RUN"), *_cut("GPU"), *_fixed("LOAD", "MEMORY"), *more]
    columns += _cut("MODELS" if is_wide else "")
    rows: list[list[Text]] = []
    for name, node in sorted(seen.picture.get("nodes", {}).items(), key=_by_state):
        gpus = node.get("gpus") or [{}]
        for number, gpu in enumerate(gpus):
            head = _node_head(name, node) if number == 0 else [Text()] * 3
            last = _said_of(node, is_wide=is_wide) if number == 0 else Text()
            rows.append([*head, *_gpu_cells(gpu, size, view, is_wide=is_wide), last])
    return Section(columns, rows or [[Text("no node is there: `ghub token create` tells how one joins", "yellow")]])


def _by_state(item: tuple[str, Mapping[str, Any]]) -> tuple[int, str]:
    name, node = item
    order = ["busy", "idle", "draining", "paused"]
    state = node.get("state", "")
    return (order.index(state) if state in order else len(order), name)


def _node_head(name: str, node: Mapping[str, Any]) -> list[Text]:
    state = plain(node.get("state"))
    return [
        Text(plain(name)),
        Text(state, STATES.get(state, "")),
        Text(f"{node.get('running', 0)}/{node.get('slots', 0)}"),
    ]


def _said_of(node: Mapping[str, Any], *, is_wide: bool) -> Text:
    """Why it takes nothing; else, where there is room, what it serves, the loaded ones first."""
    reasons = [short_words_of(reason) for reason in node.get("reasons", ()) if reason not in UNSAID]
    if reasons:
        return Text(plain(", ".join(reasons)), "magenta")
    if not is_wide:
        return Text()
    loaded = node.get("loaded", ())
    return Text(plain(", ".join(sorted(node.get("models", ()), key=lambda name: (name not in loaded, name)))), "dim")


def _gpu_cells(gpu: Mapping[str, Any], size: int, view: View, *, is_wide: bool) -> list[Text]:
    if not gpu:
        return [Text("no GPU", "dim"), *[Text()] * (4 if is_wide else 2)]
    cells = [Text(plain(short_gpu_name(gpu)))]
    load = gpu.get("utilization_pct")
    cells.append(Text("?", "dim") if load is None else _bar(load / 100, f"{load:3.0f} %", size, view, "cyan"))
    used, total = gpu.get("memory_used_mib"), gpu.get("memory_total_mib")
    if used is None or not total:
        cells.append(Text("?", "dim"))
    else:
        color = "yellow" if 100 * used >= FULL_PCT * total else "blue"
        told = memory(gpu) if is_wide else f"{used / 1024:.0f}/{total / 1024:.0f} GiB"
        cells.append(_bar(used / total, told, size, view, color))
    if is_wide:
        temperature, power = gpu.get("temperature_c"), gpu.get("power_w")
        cells.append(Text("" if temperature is None else f"{temperature:.0f} C"))
        cells.append(Text("" if power is None else f"{power:.0f} W"))
    return cells


def _bar(share: float, told: str, size: int, view: View, color: str) -> Text:
    full, empty = bar(share, size, view.glyphs)
    return Text.assemble((full, color), (empty, "dim"), f" {told}")


def queues_section(seen: Seen, view: View) -> Section | None:
    """The lanes in which something waits or runs; None if there is none."""
    lanes = [one for one in seen.picture.get("queues", {}).values() if one.get("waiting") or one.get("running")]
    if not lanes:
        return None
    columns = [*_cut("QUEUE"), *_fixed("LANE"), *_fixed("WAITING", "RUNNING", "OLDEST", justify="right"), *_cut("")]
    most = max(lane.get("waiting", 0) for lane in lanes)
    rows = []
    for lane in sorted(lanes, key=lambda one: (-one.get("waiting", 0), str(one.get("model")), str(one.get("lane")))):
        waiting, oldest = lane.get("waiting", 0), lane.get("oldest_at")
        full, _ = bar(waiting / most if most else 0, 20, view.glyphs)
        rows.append(
            [
                Text(plain(lane.get("model"))),
                Text(plain(lane.get("lane"))),
                Text(str(waiting), "yellow" if waiting else ""),
                Text(str(lane.get("running", 0))),
                Text("" if oldest is None or not waiting else duration(seen.now_ms - oldest)),
                Text(full, "yellow"),
            ]
        )
    return Section(columns, rows)


def requests_section(seen: Seen, view: View) -> Section | None:
    """What runs, the oldest first; None if nothing does."""
    running = seen.picture.get("running", {})
    if not running:
        return None
    is_wide = view.width >= WIDE
    more = [*_fixed("LANE", "STATUS")] if is_wide else []
    figures = _fixed("TRY", "AGE", "TOKENS", "TOKENS/S", justify="right")
    columns = [*_fixed("REQUEST"), *_cut("MODEL", "NODE"), *figures, *_cut("KEY"), *more]
    rows = []
    for name, one in sorted(running.items(), key=lambda item: (item[1].get("queued_at", 0), item[0])):
        attempt, since = one.get("attempt", 1), one.get("queued_at") or one.get("claimed_at")
        row = [
            Text(plain(name) if view.width >= WIDEST else plain(name)[:ID_CHARS]),
            Text(plain(one.get("model"))),
            Text(plain(one.get("node"))),
            Text(str(attempt), "yellow" if attempt > 1 else ""),
            Text("" if since is None else duration(seen.now_ms - since)),
            Text(count(one.get("tokens"))),
            Text(rate(one.get("tokens_per_s")), "cyan"),
            Text(plain(one.get("key") or "")),
        ]
        rows.append(row + ([Text(plain(one.get(name))) for name in ("lane", "status")] if is_wide else []))
    return Section(columns, rows)
