"""What a run comes to: one row of the table, and what is wrong with it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise

from bench.chaos.client import Course, End, Manner
from bench.chaos.faults import Part, Strike

HEAD = (
    "fault",
    "streams",
    "finished",
    "clean errors",
    "cut with hub",
    "left",
    "lost",
    "doubled",
    "out of order",
    "foreign",
    "miscounted",
    "unclean",
    "gap p50 / p99 / max s",
    "requeue p50 / max s",
    "left behind",
)
SHOWN = 8
ON_THE_WAY_S = 0.5
"""How long after a fault tokens may still come that were said before it."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, 99th percentile and largest of some times, s; all 0 of none."""

    p50_s: float = 0
    p99_s: float = 0
    max_s: float = 0

    @classmethod
    def of(cls, times_s: Iterable[float]) -> "Spread":
        """Of these."""
        ordered = sorted(times_s)
        return cls(_at(ordered, 0.5), _at(ordered, 0.99), ordered[-1]) if ordered else cls()


@dataclass(frozen=True, slots=True)
class Demands:
    """What must be true of a run beside that nothing is lost."""

    errors: int | None = None
    """Exactly so many requests end with a clean error; None: any number may."""
    gap_p99_s: float | None = None
    freed_s: float | None = None
    """Until the engines run nothing any more for the clients of a killed hub that are cut off."""
    generations: int | None = None
    """So many generations were begun, and no more."""
    dead: int = 0
    """So many jobs are among the dead."""


@dataclass(slots=True)
class Row:
    """One run."""

    fault: str
    streams: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    doubled: int = 0
    disordered: int = 0
    foreign: int = 0
    miscounted: int = 0
    gap: Spread = field(default_factory=Spread)
    """The longest silence between two tokens, of each stream that was hit."""
    requeue: Spread = field(default_factory=Spread)
    """From the fault to the end of the silence that it made."""
    freed_s: float | None = None
    resumed: int = 0
    victims: int = 0
    generations: int | None = None
    dead: int = 0
    left_behind: list[str] = field(default_factory=list)
    causes: dict[str, int] = field(default_factory=dict)
    """Why requests did not finish, and how many."""
    wrongs: list[str] = field(default_factory=list)
    """What must not be; empty where all is well."""

    @property
    def unclean(self) -> int:
        """Requests that ended neither well nor with one clear error."""
        return self.ends[End.UNCLEAN] + self.ends[End.STUCK]

    def cells(self) -> list[str]:
        """What stands in the table."""
        ends = (self.ends[end] for end in (End.FINISHED, End.CLEAN_ERROR, End.HUB_LOST, End.LEFT))
        wrong = (self.lost, self.doubled, self.disordered, self.foreign, self.miscounted, self.unclean)
        gap = f"{self.gap.p50_s:.2f} / {self.gap.p99_s:.2f} / {self.gap.max_s:.2f}"
        requeue = f"{self.requeue.p50_s:.2f} / {self.requeue.max_s:.2f}"
        return [self.fault, *map(str, (self.streams, *ends, *wrong)), gap, requeue, str(len(self.left_behind))]

    def as_json(self) -> dict[str, object]:
        """All of it."""
        return asdict(self) | {"ends": dict(self.ends), "unclean": self.unclean}  # asdict makes no sense of a Counter


def row_of(fault: str, courses: Sequence[Course], strikes: Sequence[Strike], left_behind: list[str]) -> Row:
    """Add up a run."""
    row = Row(fault, len(courses), Counter(str(course.end) for course in courses), left_behind=left_behind)
    for course in courses:
        verdict = course.verdict
        row.lost += verdict.lost
        row.doubled += verdict.doubled
        row.disordered += verdict.disordered
        row.foreign += verdict.foreign
        row.miscounted += course.is_miscounted
        row.resumed += course.resumed
        if not verdict.is_clean or course.is_miscounted:
            row.wrongs.append(_told(course))
    row.causes = dict(Counter(f"{course.end}: {course.why}" for course in courses if course.why))
    timed = {id(course): course for strike in strikes for course in strike.victims if _is_timed(course)}
    row.victims = len(timed)
    row.gap = Spread.of(max(b - a for a, b in pairwise(course.heard.times_s)) for course in timed.values())
    row.requeue = Spread.of(_silences(strikes))
    row.freed_s = max((strike.freed_s for strike in strikes if strike.freed_s is not None), default=None)
    return row


def find_wrongs(row: Row, demands: Demands) -> None:
    """Add to a row what must not be."""
    wrongs = row.wrongs
    wrongs += [f"{row.unclean} requests ended unclean: {row.causes}"] if row.unclean else []
    wrongs += [f"left behind: {what}" for what in row.left_behind]
    errors = row.ends[End.CLEAN_ERROR]
    if demands.errors is not None and errors != demands.errors:
        wrongs.append(f"{errors} clean errors instead of {demands.errors}: {row.causes}")
    if demands.gap_p99_s is not None and row.gap.p99_s > demands.gap_p99_s:
        wrongs.append(f"gap p99 {row.gap.p99_s:.2f} s, more than {demands.gap_p99_s} s")
    if demands.freed_s is not None and row.ends[End.HUB_LOST] and not 0 <= (row.freed_s or 999) <= demands.freed_s:
        wrongs.append(f"engines came free after {row.freed_s} s, later than {demands.freed_s} s")
    if demands.generations is not None and row.generations != demands.generations:
        wrongs.append(f"{row.generations} generations were begun instead of {demands.generations}")
    if row.dead != demands.dead:
        wrongs.append(f"{row.dead} jobs are dead instead of {demands.dead}")


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [HEAD, tuple("---" for _ in HEAD), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def notes(row: Row) -> str:
    """What the table has no room for."""
    freed = "" if row.freed_s is None else f", engines free after {row.freed_s:.1f} s"
    said = f"{row.fault}: {row.victims} timed streams were hit, {row.resumed} connections resumed{freed}"
    causes = [f"  {count} times {cause}" for cause, count in row.causes.items()]
    return "\n".join([said, *causes, *(f"  WRONG: {wrong}" for wrong in row.wrongs[:SHOWN])])


def _told(course: Course) -> str:
    words = course.heard.words
    breaks = [f"{a}{b}" for a, b in pairwise(words) if not _follows(a, b)]
    ask = course.ask
    return (
        f"request {ask.number} ({ask.manner}, {ask.path}, {course.request_id}): {course.verdict}, said {len(words)} of "
        f"{ask.tokens}, counted {course.heard.completion_tokens}, {course.end} {course.why}, seams {breaks[:3]}"
    )


def _follows(first: str, second: str) -> bool:
    a, b = first[1:].strip(), second[1:].strip()
    return a.isdigit() and b.isdigit() and int(b) == int(a) + 1


def _is_timed(course: Course) -> bool:
    return course.ask.manner not in (Manner.SLOW, Manner.ATTACHING, Manner.WHOLE) and len(course.heard.times_s) > 1


def _silences(strikes: Iterable[Strike]) -> Iterable[float]:
    """From each fault to the end of the longest silence about it, of each stream hit that went on."""
    for strike in strikes:
        if strike.fault.part is Part.NETWORK:
            continue
        for course in filter(_is_timed, strike.victims):
            times_s = course.heard.times_s
            gaps = [(b - a, b) for a, b in pairwise(times_s) if a < strike.at_s + ON_THE_WAY_S and b > strike.at_s]
            if gaps:
                yield max(gaps)[1] - strike.at_s


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
