"""The command line of the project and the one-machine stack that it can start."""
