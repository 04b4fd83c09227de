"""`segment-cohort down`: stops exactly what `up` or `run` started."""

from __future__ import annotations

from argparse import Namespace

from flows import services


def execute(_: Namespace) -> int:
    """0; says what was stopped."""
    stopped = services.down()
    print("\n".join(f"stopped {name}" for name in stopped) if stopped else "nothing was running")
    return 0
