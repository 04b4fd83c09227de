"""One file a sub-command: `execute(arguments)` does the work and returns the exit code."""
