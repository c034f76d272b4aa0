"""`python -m bench.chaos`: run scenarios, print the table, end with 1 if anything was lost or is left."""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.chaos.report import Row, notes, table
from bench.chaos.run import Size, run
from bench.chaos.scenarios import ALL, BY_NAME
from bench.ending import end_when_told

SHOWN_CHARACTERS = 400


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line says; 0 if nothing is wrong."""
    options = _read(arguments)
    if options.list:
        for scenario in ALL:
            print(f"{scenario.name:20} {scenario.about}")
        return 0
    names = options.faults.split(",") if options.faults else [one.name for one in ALL if not one.is_steady]
    if unknown := [name for name in names if name not in BY_NAME]:
        print(f"no such scenario: {', '.join(unknown)}; see --list", file=sys.stderr)
        return 2
    size = Size(options.streams, options.seed, options.gap_ms, options.tokens, options.minutes)
    rows: list[Row] = []
    for name in names:
        _say(f"--- {name}: {BY_NAME[name].about}")
        rows.append(_run(name, size, options.logs))
        _say(notes(rows[-1]))
    if options.json:
        print(json.dumps([row.as_json() for row in rows], indent=2))
    else:
        print(f"\nseed {size.seed}, {size.streams} clients, {size.gap_ms:g} ms a token\n\n{table(rows)}\n")
    return 1 if any(row.wrongs for row in rows) else 0


def _run(name: str, size: Size, logs: Path | None) -> Row:
    with tempfile.TemporaryDirectory() as temporary:
        folder = logs / name if logs else Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return asyncio.run(run(BY_NAME[name], size, folder, _say))
        except AssertionError as exc:  # a part did not start
            return Row(name, wrongs=[f"could not be run: {str(exc)[-SHOWN_CHARACTERS:]}"])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _read(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the scenarios and end")
    parser.add_argument("--faults", default="", help="scenarios, a,b; default: all but the random one")
    parser.add_argument("--streams", type=int, default=200, help="clients at once (200)")
    parser.add_argument("--seed", type=int, default=1, help="of the plan and of what clients ask for (1)")
    parser.add_argument("--minutes", type=float, default=1, help="of the random run (1)")
    parser.add_argument("--gap-ms", type=float, default=50, help="between two tokens of a stream (50)")
    parser.add_argument("--tokens", type=int, help="of an answer, on average; default: the scenario's")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON instead of the table")
    parser.add_argument("--logs", type=Path, help="keep the logs of all processes in this folder")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    end_when_told()
    sys.exit(main())
