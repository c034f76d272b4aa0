"""A scenario of `bench.chaos`, small and hasty, with nothing left to be said against it."""

import asyncio
from pathlib import Path

from bench.chaos.report import Row, notes, table
from bench.chaos.run import Size, run
from bench.chaos.scenarios import BY_NAME

SEED = 7
STREAMS = 24
HASTE = 0.25
"""Heartbeats of 0.5 s instead of 2 s, and all else as much quicker."""
GAP_MS = 30.0


def prove(scenario: str, folder: Path, *, streams: int = STREAMS, tokens: int = 110, haste: float = HASTE) -> Row:
    """Run it; AssertionError tells what is wrong. `tokens` x 30 ms is how long a stream takes undisturbed.

    One that goes on and on lasts as long as its plan.
    """
    size = Size(streams, SEED, GAP_MS, tokens, minutes=0, haste=haste, is_patient=False, is_afresh=False)
    row = asyncio.run(run(BY_NAME[scenario], size, folder))
    assert not row.wrongs, f"{notes(row)}\n{table([row])}"
    assert row.streams >= streams
    return row
