"""The agent on a GPU machine: pulls jobs when it is idle, runs them on the local engine, streams the answers back."""
