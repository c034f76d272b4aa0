"""What the way through the grid costs, beside other gateways: one engine, one load, each system in turn.

Run: `uv run --group bench python -m bench.compare`; see `bench/README.md`.
"""
