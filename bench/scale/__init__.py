"""How the grid's cost grows with its nodes: see `python -m bench.scale --help`."""
