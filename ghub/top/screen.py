"""The live screen: drawn when something is new, when a second has passed, and when the terminal has another size."""

import signal
import sys
import time
from collections import deque
from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.live import Live

from ghub.live.following import Following, Seen
from ghub.top.bars import Glyphs
from ghub.top.frame import frame
from ghub.top.keyboard import Keyboard
from ghub.top.view import NO_LIMIT, View

LOOK_S = 0.1
"""How soon a key or news shows."""
REDRAW_S = 1.0
"""How often what is told of the past grows older on the screen."""
MOMENTS = 300
"""Of the pace of tokens, one a second."""
LEAVE = ("q", "Q", "\x1b", "\x03", "\x04")


def show_live(following: Following, console: Console) -> None:
    """Show the grid until q, Escape or Ctrl-C."""
    rates: deque[float] = deque(maxlen=MOMENTS)
    drawn_at, size = 0.0, console.size
    signal.signal(signal.SIGTERM, _end)  # the screen is given back then, too
    following.start()
    try:
        with Keyboard() as keyboard, Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                is_time = time.monotonic() - drawn_at >= REDRAW_S
                if is_time:
                    rates.append(following.seen.picture.get("totals", {}).get("tokens_per_s", 0.0))
                    drawn_at = time.monotonic()
                if following.has_news() or is_time or console.size != size:
                    size = console.size
                    live.update(_drawn(following.seen, console, rates, size.height), refresh=True)
                if keyboard.key_within(LOOK_S)[:1] in LEAVE:
                    return
    except KeyboardInterrupt:
        return


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)


def show_once(seen: Seen, console: Console) -> None:
    """Print one frame, as long as it is."""
    console.print(_drawn(seen, console, (), NO_LIMIT))


def _drawn(seen: Seen, console: Console, rates: Sequence[float], height: int) -> RenderableType:
    is_live = height != NO_LIMIT
    view = View(console.width, height, Glyphs.that_fit(console.encoding), tuple(rates), is_live=is_live)
    return frame(seen, view)
