"""The proof that nothing is lost: a grid of real processes, faults by a seeded plan, every answer read token by token.

Run: `uv run python -m bench.chaos --list`; see `bench/README.md`.
"""
