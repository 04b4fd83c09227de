"""`segment-cohort up`: the local Prefect server and worker, and the deployments."""

from __future__ import annotations

from argparse import Namespace

from flows import services


def execute(arguments: Namespace) -> int:
    """0 when everything runs; says where, and how to stop it. Or, if asked, registers the deployments alone."""
    if arguments.register_only:
        paused = services.register()
        print("\n".join(["the deployments are registered", *(f"the schedule of {name} is paused" for name in paused)]))
        return 0
    print(services.describe(services.up()))
    return 0
