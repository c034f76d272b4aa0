"""`python -m bench.compare`: measure this project beside others and print what came of it."""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.compare.plots import draw
from bench.compare.promises import verdict_table, verdicts
from bench.compare.report import tables
from bench.compare.run import compare, medians
from bench.compare.systems import ALL as SYSTEMS
from bench.compare.workloads import ALL as WORKLOADS
from bench.compare.workloads import BY_NAME
from bench.ending import end_when_told


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line says; 0 if ours was measured without an error."""
    options = _read(arguments)
    systems = options.systems.split(",") if options.systems else [*SYSTEMS]
    names = options.workloads.split(",") if options.workloads else [one.name for one in WORKLOADS]
    for name, known in [*((one, SYSTEMS) for one in systems), *((one, BY_NAME) for one in names)]:
        if name not in known:
            print(f"no {name} among {', '.join(known)}", file=sys.stderr)
            return 2
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.logs or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        measured = compare(systems, [BY_NAME[name] for name in names], options.rounds, folder, _say)
    cells = medians(measured)
    shown = [name for name in SYSTEMS if any(one.system == name for one in measured)]
    text = f"{tables(cells, shown)}\n\n### Promises\n\n{verdict_table(verdicts(cells))}\n"
    print(text)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "results.json").write_text(json.dumps([one.as_json() for one in measured], indent=1))
        (options.out / "results.md").write_text(text)
        for path in draw(cells, shown, options.out):
            _say(f"wrote {path}")
    return 1 if any(one.figures.errors for one in measured if one.system == "GhubAi") else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _read(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("--systems", default="", help=f"of {', '.join(SYSTEMS)}; with commas; default: all")
    parser.add_argument("--workloads", default="", help=f"of {', '.join(BY_NAME)}; with commas; default: all")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (3)")
    parser.add_argument("--out", type=Path, help="write every measurement (JSON), tables (Markdown), plots (PNG) here")
    parser.add_argument("--logs", type=Path, help="keep what the systems say in this folder")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    end_when_told()
    sys.exit(main())
