"""The stories: what a night does, what a training does, and the command line that starts them."""

import os

# Before Prefect is imported anywhere: this program never phones home unless its user says so.
os.environ.setdefault("DO_NOT_TRACK", "1")
