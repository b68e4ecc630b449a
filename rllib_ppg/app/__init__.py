"""App: what a person runs: the command line, experiment files, live view."""
