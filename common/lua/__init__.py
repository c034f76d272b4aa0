"""Scripts that the broker runs, one atomic step each."""
