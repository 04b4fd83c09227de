"""`segment-cohort up`: the local Prefect server and worker, and the deployments."""

from __future__ import annotations

from argparse import Namespace

from flows import services


def execute(_: Namespace) -> int:
    """0 when everything runs; says where, and how to stop it."""
    print(services.describe(services.up()))
    return 0
