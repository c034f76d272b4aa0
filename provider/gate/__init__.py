"""Whether this machine may take work now, as a set of named reasons not to."""
