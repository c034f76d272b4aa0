"""Scripts that the broker runs, one atomic step each, and what several of them share."""
