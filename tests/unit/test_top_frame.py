"""The screen of `ghub top`, drawn from pictures: what is on it, and that it fits whatever the terminal's size."""

import io
import time
from typing import Any

import pytest
from rich.console import Console

from ghub.live.following import Seen
from ghub.top.bars import Glyphs, bar, sparkline
from ghub.top.frame import frame
from ghub.top.room import shared
from ghub.top.view import NO_LIMIT, View
from tests.support.pictures import GPU, node, picture, running

UNICODE, ASCII = Glyphs.that_fit("utf-8"), Glyphs.that_fit("latin-1")


def drawn(
    shown: dict[str, Any], width: int = 80, height: int = 24, glyphs: Glyphs = UNICODE, *, trouble: str = ""
) -> list[str]:
    out = io.StringIO()
    view = View(width, height, glyphs, (1.0, 5.0, 2.0), is_live=True)
    Console(file=out, width=width, highlight=False).print(frame(Seen(shown, time.monotonic(), trouble), view))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def row(lines: list[str], first: str) -> str:
    (found,) = [line for line in lines if line.startswith(first)]
    return found


def test_a_grid_at_work_is_on_one_screen() -> None:
    lines = drawn(picture())
    assert "desk-7166962d" in lines[0]
    assert "q leaves" in lines[0]
    assert lines[1] == "3 nodes · 1 idle · 1 busy · 1 paused · 4 of 12 slots run · 3 wait · 1 dead"
    assert lines[2].startswith("  62.8 tokens/s ▂█▃  last hour 240 requests · 1 failed")
    assert row(lines, "desk").split() == [
        "desk",
        "busy",
        "4/4",
        "RTX",
        "4090",
        "█████░",
        "78",
        "%",
        "███░░░",
        "12/24",
        "GiB",
    ]
    assert "GPU in use" in row(lines, "attic")
    assert "no GPU" in row(lines, "vm")
    assert row(lines, "smollm2:135m").split()[:6] == ["smollm2:135m", "interactive", "3", "2", "12", "s"]
    assert row(lines, "bbbbbbbb").split()[3:8] == ["2", "2", "min", "1,234", "31.4"]
    assert not [line for line in lines if line.startswith("llama3.2:3b")], "a lane that is empty is left out"


def test_each_gpu_of_a_node_has_a_line() -> None:
    lines = drawn(picture())
    at = lines.index(row(lines, "desk"))
    assert lines[at + 1].split()[:6] == ["RTX", "4090", "█░░░░░", "4", "%", "██████"]


def test_a_wide_terminal_tells_more() -> None:
    lines = drawn(picture(), 160, 40)
    assert "61 C  222 W  smollm2:135m, llama3.2:3b" in row(lines, "desk")
    assert "b" * 32 in row(lines, "bbbbbbbb")
    assert "interactive  streaming" in row(lines, "bbbbbbbb")


@pytest.mark.parametrize("width", [20, 40, 79, 80, 99, 100, 131, 250])
@pytest.mark.parametrize("height", [1, 5, 9, 13, 24, 60])
@pytest.mark.parametrize("many", [0, 1, 40])
def test_it_fits_any_terminal(width: int, height: int, many: int) -> None:
    nodes = {f"node-with-a-long-name-{number}": node("busy", gpus=[GPU] * 3) for number in range(many)}
    jobs = {f"{number:032x}": running(model="a-model/of-a-very-long-name:70b") for number in range(many)}
    lines = drawn(picture(nodes=nodes, running=jobs), width, height, trouble="the hub is gone")
    assert all(len(line) <= width for line in lines)
    assert len(lines) <= max(height, 4)  # the head is never cut


def test_what_has_no_room_is_counted() -> None:
    lines = drawn(picture(nodes={f"n{number:02}": node() for number in range(30)}), 80, 24)
    shown = [line for line in lines if line.startswith("n") and "idle" in line and "RTX" in line]
    (rest,) = [line for line in lines if line.startswith("and ")]
    assert rest == f"and {30 - len(shown)} more"


def test_without_a_limit_all_is_drawn() -> None:
    lines = drawn(picture(nodes={f"n{number:02}": node() for number in range(90)}), 80, NO_LIMIT)
    assert len([line for line in lines if "RTX" in line]) == 90


def test_an_empty_grid_says_what_to_do() -> None:
    lines = drawn({"at": 1, "hub": {"id": "h", "version": "1"}})
    assert any("ghub token create" in line for line in lines)
    assert "nothing waits or runs" in lines


def test_trouble_stands_above_the_last_picture() -> None:
    lines = drawn(picture(), trouble="no hub answers")
    assert lines[1] == "no hub answers"
    assert row(lines, "desk")


def test_where_there_are_no_blocks_it_is_drawn_with_what_there_is() -> None:
    text = "\n".join(drawn(picture(), 120, 40, ASCII))
    assert "#####" in text
    assert text.encode("latin-1")


def test_names_of_others_move_no_cursor() -> None:
    assert "\x1b" not in "\n".join(
        drawn(picture(nodes={"a\x1b[2J": node("\x1b[0m", models=["\x07"], loaded=[])}), 120, 40)
    )


def test_what_a_gpu_does_not_tell_is_no_zero() -> None:
    lines = drawn(picture(nodes={"mig": node(gpus=[{"name": "A100 MIG 1g.10gb"}])}))
    assert row(lines, "mig").split()[-2:] == ["?", "?"]


def test_lines_are_shared_fairly() -> None:
    assert shared(10, [2, 50, 3]) == [2, 5, 3]
    assert shared(3, [9, 9]) == [2, 1]
    assert shared(-4, [1]) == [0]
    assert shared(99, [4, 0]) == [4, 0]


def test_bars_and_sparklines_keep_their_size() -> None:
    assert [bar(share, 4, UNICODE) for share in (-1, 0, 0.01, 0.5, 9)] == [
        ("", "░░░░"),
        ("", "░░░░"),
        ("█", "░░░"),
        ("██", "░░"),
        ("████", ""),
    ]
    assert sparkline([0, 1, 2, 4, 8], 4, UNICODE) == "▁▂▄█"
    assert sparkline([0, 0], 9, UNICODE) == "▁▁"
    assert sparkline([], 9, UNICODE) == sparkline([1], 0, UNICODE) == ""
