"""`python -m bench.compare.growth`: what a request costs with more providers, and with more models."""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.compare.ours import ours
from bench.compare.run import Measured, line, measure
from bench.compare.system import System
from bench.compare.systems import engine
from bench.compare.workloads import BY_NAME
from bench.ending import end_when_told

PROVIDERS = (1, 2, 4)
MODELS = (1, 10, 100)
"""Each has three lanes, and an idle provider waits on all of them."""
WORKLOADS = ("short-1", "short-16", "paced-200")
ROUNDS = 3


@contextmanager
def _grid(providers: int, models: int) -> Iterator[System]:
    with (
        tempfile.TemporaryDirectory() as folder,
        engine(models) as port,
        ours(port, Path(folder), providers=providers) as system,
    ):
        yield system


def _row(providers: int, models: int) -> str:
    cells = [str(providers), str(models)]
    with _grid(providers, models) as system:
        for name in WORKLOADS:
            measured = sorted((measure(system, BY_NAME[name], nth) for nth in range(ROUNDS)), key=_cost)
            for one in measured:
                print(line(one), file=sys.stderr, flush=True)
            median = measured[ROUNDS // 2]
            faults = sum(one.figures.errors + one.figures.lost + one.figures.repeated for one in measured)
            cost = median.values["cpu_ms_per_request"] if name.startswith("short") else _cost(median)
            cells.append(f"{median.figures.first_ms:.2f} · {cost:.2f}" + (f" ({faults} faults)" if faults else ""))
    return f"| {' | '.join(cells)} |"


def _cost(one: Measured) -> float:
    return one.values["cpu_s_per_100k"]


def main(_: Sequence[str] = ()) -> int:
    """Print the table."""
    head = ["providers", "models", "short-1: ms · CPU ms", "short-16: ms · CPU ms", "paced-200: ms · CPU-s per 100,000"]
    print(f"| {' | '.join(head)} |\n|{' ---: |' * len(head)}", flush=True)
    for providers in PROVIDERS:
        print(_row(providers, 1), flush=True)
    for models in MODELS[1:]:
        print(_row(1, models), flush=True)
    return 0


if __name__ == "__main__":
    end_when_told()
    sys.exit(main(sys.argv[1:]))
