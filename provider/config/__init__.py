"""Where settings come from: the file, the environment, the command line; and what is wrong with them, by place."""
