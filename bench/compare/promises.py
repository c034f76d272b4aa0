"""What is promised of the way through the grid, and whether it is so."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import eq, ge, gt, le, lt
from typing import NamedTuple

from bench.compare.report import FAULTS, Cells, row
from bench.compare.workloads import BY_NAME

OURS, LITELLM, ROUTER, PORTKEY, DIRECT = "GhubAi", "LiteLLM", "vllm-router", "Portkey", "direct"
EVENTS, CPU = "events_per_s", "cpu_s_per_100k"


@dataclass(frozen=True)
class Look:
    """A look at what was measured. KeyError where it was not."""

    cells: Cells

    def of(self, value: str, workload: str, system: str = OURS) -> float:
        """One value."""
        return self.cells[system, workload][value]

    def ratio(self, value: str, workload: str, to: str, to_workload: str = "") -> float:
        """A value of ours against another system's, under the same workload unless another one is named."""
        return self.of(value, workload) / self.of(value, to_workload or workload, to)

    def added(self, value: str, workload: str, system: str = OURS) -> float:
        """How much a system adds to what the engine takes by itself."""
        return self.of(value, workload, system) - self.of(value, workload, DIRECT)

    def worst_step(self, value: str, *workloads: str) -> float:
        """The largest ratio of one of these workloads to the one before it."""
        values = [self.of(value, workload) for workload in workloads]
        return max(b / (a or 1) for a, b in pairwise(values))


class Promise(NamedTuple):
    """What is measured, and between which bounds it is to be."""

    text: str
    measure: Callable[[Look], float]
    bound: Callable[[float, float], bool]
    limit: float
    form: str = ".2f"


@dataclass(frozen=True)
class Verdict:
    """A promise and what was measured."""

    promise: str
    measured: str
    is_kept: bool | None
    """None: what it is compared with was not measured."""


def _of_burst(name: str) -> tuple[Promise, ...]:
    return (
        Promise(f"{name}: events/s at least 50 x LiteLLM's", lambda x: x.ratio(EVENTS, name, LITELLM), ge, 50, ".0f"),
        Promise(f"{name}: events/s at least 0.5 x vllm-router's", lambda x: x.ratio(EVENTS, name, ROUTER), ge, 0.5),
        Promise(
            f"{name}: CPU an event at most 1/40 of LiteLLM's", lambda x: x.ratio(CPU, name, LITELLM), le, 1 / 40, ".4f"
        ),
        Promise(f"{name}: CPU an event at most 2 x vllm-router's", lambda x: x.ratio(CPU, name, ROUTER), le, 2),
    )


def _of_paced(name: str, share: int) -> tuple[Promise, ...]:
    return (
        Promise(
            f"{name}: no error, no event lost or repeated",
            lambda x: sum(x.of(one, name) for one in FAULTS),
            eq,
            0,
            ".0f",
        ),
        Promise(
            f"{name}: CPU an event at most 1/{share} of LiteLLM's at 50",
            lambda x: x.ratio(CPU, name, LITELLM, "paced-50"),
            le,
            1 / share,
            ".3f",
        ),
    )


PROMISES = (
    *_of_burst("burst-16"),
    *_of_burst("burst-64"),
    *_of_paced("paced-200", 9),
    Promise("paced-200: gap p99 under 40 ms", lambda x: x.of("gap_p99_ms", "paced-200"), lt, 40, ".1f"),
    *_of_paced("paced-500", 14),
    Promise(
        "paced-500: within 1.15 x nominal time",
        lambda x: x.of("seconds", "paced-500") / BY_NAME["paced-500"].nominal_s,
        le,
        1.15,
    ),
    Promise("burst-1: added time to first event under 3 ms", lambda x: x.added("first_ms", "burst-1"), lt, 3),
    Promise(
        "burst-1: added time to first event at most 1/5 of LiteLLM's",
        lambda x: x.added("first_ms", "burst-1") / x.added("first_ms", "burst-1", LITELLM),
        le,
        0.2,
    ),
    Promise(
        "paced-200: added latency of an event under 2.5 ms", lambda x: x.added("latency_p50_ms", "paced-200"), lt, 2.5
    ),
    Promise(
        "short-16: requests/s at least 20 x LiteLLM's",
        lambda x: x.ratio("requests_per_s", "short-16", LITELLM),
        ge,
        20,
        ".1f",
    ),
    Promise(
        "short-16: requests/s more than Portkey's", lambda x: x.ratio("requests_per_s", "short-16", PORTKEY), gt, 1
    ),
    Promise(
        "CPU an event falls from 50 to 200 to 500 streams: the worst step",
        lambda x: x.worst_step(CPU, "paced-50", "paced-200", "paced-500"),
        lt,
        1,
    ),
    Promise(
        "paced-500: hub memory under 60 KB per open stream",
        lambda x: x.of("growth_mib hub", "paced-500") * 2**20 / 1000 / 500,
        lt,
        60,
        ".0f",
    ),
    Promise(
        "burst-1: from the client's request to the engine's start, median under 1.5 ms",
        lambda x: x.of("inbound_ms", "burst-1"),
        lt,
        1.5,
    ),
)


def verdicts(cells: Cells) -> list[Verdict]:
    """What came of each promise."""
    return [_verdict(one, Look(cells)) for one in PROMISES]


def _verdict(promise: Promise, look: Look) -> Verdict:
    try:
        measured = promise.measure(look)
    except (KeyError, ZeroDivisionError):
        return Verdict(promise.text, "not measured", None)
    return Verdict(promise.text, format(measured, promise.form), promise.bound(measured, promise.limit))


def verdict_table(found: Sequence[Verdict]) -> str:
    """Markdown."""
    words = {True: "yes", False: "**no**", None: "-"}
    lines = [row(["promise", "measured", "kept"]), row(["---", "---:", "---"])]
    return "\n".join([*lines, *(row([one.promise, one.measured, words[one.is_kept]]) for one in found)])
