"""One frame of the screen: a head, and below it as much of nodes, queues and requests as there is room for."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ghub.live.following import Seen
from ghub.live.picture import Picture
from ghub.showing.figures import count, latency, rate
from ghub.showing.tables import plain
from ghub.top.bars import sparkline
from ghub.top.room import shared
from ghub.top.sections import STATES, Section, nodes_section, queues_section, requests_section
from ghub.top.view import WIDE, View

HOUR_MIN = 60
LEAST_POINTS, MOST_POINTS = 16, 60


def frame(seen: Seen, view: View) -> RenderableType:
    """Draw a picture of the grid so that it fits."""
    head = [*_head(seen, view)]
    sections = [section for make in (nodes_section, queues_section, requests_section) if (section := make(seen, view))]
    if len(sections) == 1:
        head.append(Text("nothing waits or runs", "dim"))
    # each has a blank line before it and a line of heads
    room = view.height - len(head) - 2 * len(sections)
    given = shared(room, [len(section.rows) for section in sections])
    body = [
        part for section, lines in zip(sections, given, strict=True) if lines > 0 for part in _drawn(section, lines)
    ]
    return Group(*head, *body)


def _drawn(section: Section, lines: int) -> list[RenderableType]:
    rows = section.rows
    left_out = len(rows) - lines
    if left_out > 0:  # the last line says how many there is no room for
        rows, left_out = rows[: lines - 1], left_out + 1
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold dim")
    for column in section.columns:
        heading = Text(column.name, no_wrap=True, overflow="ellipsis")
        # rich takes room first from columns that may be wrapped; none is, since no cell may be
        table.add_column(heading, justify=column.justify, no_wrap=not column.is_flexible, overflow="ellipsis")
    for row in rows:
        for cell in row:
            cell.no_wrap, cell.overflow = True, "ellipsis"
        table.add_row(*row)
    parts: list[RenderableType] = [Text(), table]
    if left_out > 0:
        parts.append(Text(f"and {left_out} more", style="dim"))
    return parts


def _head(seen: Seen, view: View) -> list[Text]:
    picture, dot = seen.picture, f" {view.glyphs.dot} "
    hub, totals = picture.get("hub", {}), picture.get("totals", {})
    hubs = len(picture.get("hubs", {}))
    moment = f"{datetime.fromtimestamp(seen.now_ms / 1000, UTC):%H:%M:%S} UTC"
    if view.is_live:
        moment = f"q leaves{dot}{moment}"
    name = [f"hub {plain(hub.get('id'))}", plain(hub.get("version")), *([f"{hubs} hubs"] if hubs > 1 else [])]
    lines = [_ends(Text.assemble(("ghub top", "bold cyan"), f"  {dot.join(name)}"), Text(moment, "dim"), view.width)]
    if seen.trouble:
        lines.append(Text(plain(seen.trouble), style="bold red", no_wrap=True, overflow="ellipsis"))
    lines.append(_totals(totals, dot, view.width))
    lines.append(_pace(picture, totals, view, dot))
    return lines


def _totals(totals: Mapping[str, Any], dot: str, width: int) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(_many(totals.get("nodes", 0), "node"))
    for state, style in STATES.items():
        if number := totals.get(state):
            line.append(dot, "dim").append(f"{number} {state}", style)
    line.append(dot, "dim").append(f"{totals.get('running', 0)} of {totals.get('slots', 0)} slots run")
    line.append(dot, "dim").append(f"{totals.get('waiting', 0)} wait", "yellow" if totals.get("waiting") else "")
    if dead := totals.get("dead"):
        line.append(dot, "dim").append(f"{dead} dead" + " (ghub requests dead)" * (width >= WIDE), "red")
    line.truncate(width, overflow="ellipsis")
    return line


def _pace(picture: Picture, totals: Mapping[str, Any], view: View, dot: str) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{rate(totals.get('tokens_per_s', 0)):>6}", "bold").append(" tokens/s ")
    words = _told_of_hour(picture.get("history", {}).get("points", {}))
    room = view.width - line.cell_len - 2
    while len(words) > 1 and room - len(dot.join(words)) < LEAST_POINTS:
        words.pop()
    told = dot.join(words)
    values, what = (view.rates, "") if len(view.rates) > 1 else (_per_minute(picture), " a minute")
    if values:
        spark = max(LEAST_POINTS, min(MOST_POINTS, room - len(told) - len(what)))
        line.append(sparkline(values, spark, view.glyphs), "cyan").append(what, "dim")
    line.append(f"  {told}", "dim")
    line.truncate(view.width, overflow="ellipsis")
    return line


def _told_of_hour(points: Mapping[str, Any]) -> list[str]:
    def of_all(name: str) -> int:
        return sum(point.get(name, 0) for point in points.values())

    words = [f"last hour {_many(of_all('requests'), 'request')}"]
    words += [f"{count(of_all(name))} {name}" for name in ("failed", "retried") if of_all(name)]
    if points and (late := points[max(points, key=int)]).get("first_token_p50_ms") is not None:
        words.append(f"first token {latency(late['first_token_p50_ms'])}")
    return words


def _per_minute(picture: Picture) -> list[float]:
    """Tokens of each minute of the last hour; minutes of which nothing is told had none."""
    history = picture.get("history", {})
    points, step_ms = history.get("points", {}), 1000 * history.get("step_s", HOUR_MIN)
    if not points or not step_ms:
        return []
    last = int(picture.get("at", 0)) // step_ms * step_ms
    return [points.get(str(last - back * step_ms), {}).get("completion_tokens", 0) for back in range(HOUR_MIN)][::-1]


def _many(number: int, what: str) -> str:
    return f"{count(number)} {what}{'' if number == 1 else 's'}"


def _ends(left: Text, right: Text, width: int) -> Text:
    """One text at the left edge and one at the right."""
    gap = width - left.cell_len - right.cell_len
    if gap < 2:
        left.truncate(max(0, width - right.cell_len - 2), overflow="ellipsis")
        gap = width - left.cell_len - right.cell_len
    line = left.append(" " * max(1, gap)).append_text(right)
    line.truncate(width)
    return line
