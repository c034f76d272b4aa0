"""Windows of time in which this machine may work for others.

A window is meant as its owner reads it off the clock on the wall, so it is compared with just that: `22:00-02:30` ends
when the clock says half past two. Where the clock is put forward over an end or a begin, the window ends or begins with
the jump; where it is put back, the hour that comes twice is inside or outside twice.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
DAY_MIN = 24 * 60
HORIZON_DAYS = 16
"""How far ahead a change is looked for: a weekly window may fall into a skipped hour once, not twice in a row."""

_FORM = re.compile(r"(?:(?P<days>\S.*?)\s+)?(?P<begin>\d{1,2}:\d{2})\s*-\s*(?P<end>\d{1,2}:\d{2})")
_EXPECTED = "expected `[days] HH:MM-HH:MM`, e.g. `22:00-08:00` or `mon-fri 18:00-24:00`"


@dataclass(frozen=True, slots=True)
class Window:
    """From a time of day up to, and without, another; what crosses midnight belongs to the day on which it begins."""

    days: frozenset[int]
    """On which it begins; Monday is 0."""
    begin_min: int
    """Minutes since midnight."""
    end_min: int
    """Up to 24 h; at or before the begin it is of the next day."""

    def holds(self, day: int, minute: int) -> bool:
        """Whether it is open at that minute of that day of the week."""
        if self.begin_min < self.end_min:
            return day in self.days and self.begin_min <= minute < self.end_min
        return (day in self.days and minute >= self.begin_min) or ((day - 1) % 7 in self.days and minute < self.end_min)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Windows that add up; without any it is always open."""

    windows: tuple[Window, ...] = ()
    zone: tzinfo | None = None
    """None: the machine's own, with its changes of the clock."""

    @classmethod
    def parse(cls, windows: Sequence[str], timezone: str) -> "Schedule":
        """Read windows as `[days] HH:MM-HH:MM`, and an IANA zone (empty: the machine's).

        Raises:
            ValueError: one cannot be read; the message says which, why, and what was expected.
        """
        return cls(tuple(_window(text) for text in windows), _zone(timezone) if timezone else None)

    def is_open(self, now: datetime) -> bool:
        """Whether work may be done at this moment.

        Raises:
            ValueError: the time has no zone.
        """
        if now.utcoffset() is None:
            raise ValueError("a moment without a zone is none")
        # By UTC, as a time that is in this zone already would stay as it is, though the clock skips it.
        wall = now.astimezone(UTC).astimezone(self.zone)
        minute = wall.hour * 60 + wall.minute
        return not self.windows or any(window.holds(wall.weekday(), minute) for window in self.windows)

    def next_change(self, now: datetime) -> datetime | None:
        """When it opens if it is closed, or closes if it is open, in UTC; None: not in the next weeks.

        Raises:
            ValueError: the time has no zone.
        """
        is_open = self.is_open(now)
        this_minute = now.astimezone(UTC).replace(second=0, microsecond=0)
        # Windows begin and end, and zones change their clocks, on whole minutes.
        ahead = (this_minute + timedelta(minutes=minute) for minute in range(1, HORIZON_DAYS * DAY_MIN))
        return next((moment for moment in ahead if self.is_open(moment) != is_open), None) if self.windows else None


def _window(text: str) -> Window:
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"window `{text}`: {_EXPECTED}")
    begin_min = _minutes(found["begin"], text, last_min=DAY_MIN - 1)
    end_min = _minutes(found["end"], text, last_min=DAY_MIN)
    if begin_min == end_min:
        raise ValueError(f"window `{text}`: it ends when it begins; for the whole day write `00:00-24:00`")
    return Window(_days(found["days"], text) if found["days"] else frozenset(range(7)), begin_min, end_min)


def _minutes(clock: str, text: str, *, last_min: int) -> int:
    hour, minute = map(int, clock.split(":"))
    if minute > 59 or hour * 60 + minute > last_min:
        last = "24:00, as an end" if last_min == DAY_MIN else "23:59, as a begin"
        raise ValueError(f"window `{text}`: `{clock}` is no time of day; expected 00:00 up to {last}")
    return hour * 60 + minute


def _days(names: str, text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in re.sub(r"\s*([-,])\s*", r"\1", names).split(","):
        first, dash, last = part.partition("-")
        begin = _day(first, text)
        end = _day(last, text) if dash else begin
        days.update((begin + ahead) % 7 for ahead in range((end - begin) % 7 + 1))
    return frozenset(days)


def _day(name: str, text: str) -> int:
    short = name.casefold()
    for number, day in enumerate(DAYS):
        if short in (day, day[:3]):
            return number
    raise ValueError(
        f"window `{text}`: `{name}` is no day; expected mon, tue, wed, thu, fri, sat or sun, e.g. `mon-fri`"
    )


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder of zones, such as `Europe`
        near = difflib.get_close_matches(name, available_timezones(), n=1)
        hint = f"did you mean `{near[0]}`?" if near else "expected an IANA name, e.g. `Europe/Amsterdam`"
        raise ValueError(f"timezone `{name}` is not known; {hint}") from None
