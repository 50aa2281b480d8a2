"""The command line: the only place that knows of environment variables, signals, logging and uvloop."""
